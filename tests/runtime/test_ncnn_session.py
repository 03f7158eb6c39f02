from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.runtime import load
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.ncnn_network import find_ncnn
from solov2_edge.runtime.ncnn_session import NcnnSession
from solov2_edge.runtime.ncnn_settings import ncnn_requests, settings_of
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.threads import ort_threads

MakeNcnn = Callable[..., Path]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)
HEAD = """7767517
5 7
Input input 0 1 level
Split split 1 2 level left right
Crop first 1 1 left logits -23309=1,0 -23310=1,2 -23311=1,0
Sigmoid sigmoid 1 1 logits class_scores
Crop last 1 1 right kernels -23309=1,2 -23310=1,6 -23311=1,0
"""


def trunk(raw: RawOutputs, grids: tuple[int, ...], size: tuple[int, int]) -> tuple[str, bytes]:
    """Return a network that gives ``raw`` with a thousandth of the input's 4x4 means added to the mask features."""
    height, width = size
    layers = [f"Input input 0 1 image 0={width} 1={height} 2=3"]
    arrays: list[NDArray[Any]] = []
    start = 0
    for number, grid in enumerate(grids):
        rows = slice(start, start + grid * grid)
        logits = np.where(raw.class_scores[rows] > 0, np.log(9.0), -100)
        arrays.append(np.concatenate([logits, raw.kernels[rows]], 1).T)
        layers.append(f"MemoryData memory{number} 0 1 level{number} 0={grid} 1={grid} 2=6")
        start = rows.stop
    arrays.append(raw.mask_features)
    layers += [
        f"MemoryData features 0 1 features 0={width // 4} 1={height // 4} 2=4",
        "Pooling pooling 1 1 image means 0=1 1=4 11=4 2=4 12=4 5=1",
        "Convolution convolution 1 1 means part 0=4 1=1 11=1 6=12",
        "BinaryOp add 2 1 features part mask_features 0=0",
    ]
    stored = [array.astype("<f4").tobytes() for array in arrays]
    stored.append(bytes(4) + np.full(12, 1 / 3000, "<f4").tobytes())
    return "\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers, ""]), b"".join(stored)


@pytest.fixture
def make_ncnn(tmp_path: Path, tiny_manifest: Manifest, tiny_raw: RawOutputs) -> MakeNcnn:
    def make(
        name: str = "tiny.ncnn",
        *,
        manifest: Manifest = tiny_manifest,
        embed: bool = True,
        sidecar: bool = True,
        head: str = HEAD,
    ) -> Path:
        path, contract = tmp_path / name, manifest.input
        manifest = replace(manifest, format="ncnn")
        path.mkdir()
        text, weights = trunk(tiny_raw, manifest.spec.grids, (contract.height, contract.width))
        (path / "trunk.param").write_text(text.replace(" image", f" {contract.name}"))
        (path / "trunk.bin").write_bytes(weights)
        (path / "head.param").write_text(head)
        (path / "head.bin").write_bytes(b"")
        if embed:
            (path / "manifest.json").write_text(manifest.to_json())
        if sidecar:
            beside = replace(manifest, sha256=sha256_of(path), size_bytes=1)
            manifest_path(path).write_text(beside.to_json())
        return path

    return make


def test_runs_and_gives_float32(make_ncnn: MakeNcnn, tiny_raw: RawOutputs) -> None:
    with NcnnSession(make_ncnn(), threads=1) as session:
        raw = undecoded(session.run(GREY))
    np.testing.assert_allclose(raw.class_scores, tiny_raw.class_scores, atol=1e-6)
    np.testing.assert_array_equal(raw.kernels, tiny_raw.kernels)
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.1, atol=1e-5)
    assert all(array.flags.c_contiguous for array in (raw.class_scores, raw.kernels, raw.mask_features))
    assert session.engine == f"ncnn {find_ncnn().__version__}"
    assert session.providers == ("cpu",)


def test_a_tensor_artefact(make_ncnn: MakeNcnn, tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    manifest = replace(tiny_manifest, input=InputContract("tensor", 64, 96, "planes"))
    session = NcnnSession(make_ncnn(manifest=manifest))
    batch = np.full((1, 3, 64, 192), 200, np.float32)[..., ::2]
    raw = undecoded(session.run(batch))
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.2, atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_the_engine_never_reads_memory_of_the_caller(make_ncnn: MakeNcnn, tiny_manifest: Manifest, kind: str) -> None:
    manifest = replace(tiny_manifest, input=InputContract(kind, 64, 96))
    network = NcnnSession(make_ncnn(manifest=manifest))._network
    assert network is not None
    batch = GREY.copy() if kind == "image" else np.full((1, 3, 64, 96), 100, np.float32)
    picture = network._picture(batch)
    batch[...] = 7
    del batch
    gc.collect()
    np.testing.assert_array_equal(np.array(picture), np.full((3, 64, 96), 100, np.float32))


@pytest.mark.parametrize(("embed", "sidecar"), [(True, True), (True, False), (False, True)])
def test_the_manifest_comes_from_inside_or_beside(make_ncnn: MakeNcnn, embed: bool, sidecar: bool) -> None:
    path = make_ncnn(embed=embed, sidecar=sidecar)
    manifest = NcnnSession(path).manifest
    assert (manifest.format, manifest.spec.name) == ("ncnn", "tiny")
    assert manifest.sha256 == sha256_of(path)


def test_an_artefact_that_changed_or_has_no_manifest_is_refused(make_ncnn: MakeNcnn) -> None:
    with pytest.raises(InputError, match="has no manifest"):
        NcnnSession(make_ncnn("bare.ncnn", embed=False, sidecar=False))
    path = make_ncnn()
    (path / "trunk.bin").write_bytes((path / "trunk.bin").read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match="has SHA-256"):
        NcnnSession(path)


@pytest.mark.parametrize("file", ["trunk.param", "trunk.bin", "head.param"])
@pytest.mark.parametrize("length", [0, 40, -9])
def test_a_damaged_file_gives_one_quiet_sentence(
    make_ncnn: MakeNcnn, capfd: pytest.CaptureFixture[str], file: str, length: int
) -> None:
    path = make_ncnn(sidecar=False)
    (path / file).write_bytes((path / file).read_bytes()[:length])
    with pytest.raises(InputError) as caught:
        NcnnSession(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_parts_and_files_in_the_place_of_folders(make_ncnn: MakeNcnn, tmp_path: Path) -> None:
    path = make_ncnn(sidecar=False)
    (path / "head.bin").unlink()
    with pytest.raises(InputError, match=r"holds no head\.bin; copy the whole folder again"):
        NcnnSession(path)
    (tmp_path / "file.ncnn").write_bytes(b"7767517")
    with pytest.raises(InputError, match="is not a folder, as ncnn artefacts are"):
        load(tmp_path / "file.ncnn")


def test_a_network_that_is_not_its_manifests(make_ncnn: MakeNcnn, capfd: pytest.CaptureFixture[str]) -> None:
    session = NcnnSession(make_ncnn("one.ncnn", head=HEAD.replace("-23310=1,2", "-23310=1,1")))
    with pytest.raises(InputError, match=r"'class_scores' has shape \(19, 1\), its manifest promises \(19, 2\)"):
        session.run(GREY)
    with pytest.raises(InputError, match=r"head\.param takes level and gives scores, kernels, its manifest says level"):
        NcnnSession(make_ncnn("two.ncnn", head=HEAD.replace("class_scores", "scores")))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "batch", [GREY[0], GREY.astype(np.float32), GREY[:, :32], GREY.transpose(0, 3, 1, 2), None, [[1]]]
)
def test_a_wrong_batch_is_refused(make_ncnn: MakeNcnn, batch: Any) -> None:
    with pytest.raises(InputError, match=r"takes a uint8 batch \(1, 64, 96, 3\), got"):
        NcnnSession(make_ncnn()).run(batch)


def test_strided_and_read_only_batches_run(make_ncnn: MakeNcnn, tiny_raw: RawOutputs) -> None:
    batch = np.arange(64 * 96 * 3, dtype=np.int64).astype(np.uint8).reshape(1, 64, 96, 3)
    batch.flags.writeable = False
    session = NcnnSession(make_ncnn())
    for given in (batch, batch[:, ::-1, :, ::-1]):
        means = given[0].reshape(16, 4, 24, 4, 3).mean((1, 3, 4)) / 1000
        np.testing.assert_allclose(
            undecoded(session.run(given)).mask_features, tiny_raw.mask_features + means, atol=1e-5
        )


def test_outputs_stay_as_they_are_whatever_runs_next(make_ncnn: MakeNcnn, tiny_raw: RawOutputs) -> None:
    session = NcnnSession(make_ncnn())
    first = undecoded(session.run(GREY * 2))
    second = undecoded(session.run(GREY))
    session.close()
    del session
    gc.collect()
    np.testing.assert_allclose(first.mask_features, tiny_raw.mask_features + 0.2, atol=1e-5)
    np.testing.assert_allclose(second.mask_features, tiny_raw.mask_features + 0.1, atol=1e-5)


def test_threads_may_share_a_session_and_close_it(make_ncnn: MakeNcnn, tiny_raw: RawOutputs) -> None:
    session = NcnnSession(make_ncnn(), threads=1)
    wrong: list[float] = []

    def work(value: int) -> None:
        batch = np.full((1, 64, 96, 3), value, np.uint8)
        for _ in range(30):
            found = undecoded(session.run(batch)).mask_features - tiny_raw.mask_features
            if abs(found - value / 1000).max() > 1e-5:
                wrong.append(float(found.max()))

    workers = [threading.Thread(target=work, args=(value,)) for value in (0, 50, 100, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(GREY)


def test_a_failing_run_is_one_sentence(make_ncnn: MakeNcnn) -> None:
    class Broken:
        def create_extractor(self) -> Broken:
            return self

        def input(self, name: str, blob: Any) -> int:
            return 0

        def extract(self, name: str) -> tuple[int, None]:
            return -100, None

    session = NcnnSession(make_ncnn())
    assert session._network is not None
    session._network._trunk = Broken()
    with pytest.raises(SolovEdgeError, match=r"ncnn failed while computing level0 \(code -100\)") as caught:
        session.run(GREY)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.0, True, "2"])
def test_threads_out_of_range(make_ncnn: MakeNcnn, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be an integer from 1 to 1024"):
        NcnnSession(make_ncnn(), threads=threads)


def test_load_opens_it_and_finds_the_same_instance(make_ncnn: MakeNcnn) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    with load(make_ncnn(), threads=1, score_threshold=0.3) as segment:
        (box,) = segment(frame).boxes
        assert segment.engine.startswith("ncnn ")
    assert box[0] == box[1] == 0
    with pytest.raises(InputError, match=r"\.ncnn artefacts run in engine 'ncnn', got engine='onnxruntime'"):
        load("a.ncnn", engine="onnxruntime")


def test_float32_on_the_cpu_unless_asked_otherwise() -> None:
    option = find_ncnn().Net().opt
    known = {field: getattr(option, field) for field in dir(option) if not field.startswith("_")}
    (plain,) = ncnn_requests(None, None)
    settings = settings_of(plain, None, known)
    assert plain.name == "cpu"
    assert settings["num_threads"] == (ort_threads() or settings["num_threads"]) > 0
    assert not any(value for field, value in settings.items() if field != "num_threads")
    half, brain, gpu = ncnn_requests(["cpu-fp16", "cpu-bf16", "vulkan"], None)
    assert settings_of(half, 2, known)["use_fp16_arithmetic"] is True
    assert settings_of(brain, 2, known)["use_bf16_storage"] is True
    assert settings_of(gpu, 2, known)["use_vulkan_compute"] is True
    asked = ncnn_requests("cpu", {"cpu": {"use_winograd_convolution": False, "use_fp16_storage": True}})[0]
    settings = settings_of(asked, 1, known)
    assert (settings["use_winograd_convolution"], settings["use_fp16_storage"]) == (False, True)
    assert set(settings) <= set(known)


@pytest.mark.parametrize(
    ("providers", "options", "message"),
    [
        ("cuda", None, "unknown provider 'cuda' of ncnn; expected one of cpu, cpu-fp16"),
        ((), None, "name at least one"),
        (("cpu", "cpu"), None, "name one twice"),
        (3, None, "must be a name"),
        (None, {"vulkan": {}}, "hold vulkan, which providers do not ask for"),
        (None, {"cpu": {"use_winograd": True}}, "did you mean use_winograd"),
        (None, {"cpu": {"num_threads": 2}}, "unknown option 'num_threads'"),
        (None, {"cpu": {"use_packing_layout": 1}}, "use_packing_layout is of type bool, got 1"),
    ],
)
def test_wrong_providers_and_options(make_ncnn: MakeNcnn, providers: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NcnnSession(make_ncnn(), providers=providers, provider_options=options)


@pytest.mark.parametrize("name", ["cpu-fp16", "cpu-bf16"])
def test_less_precise_arithmetic_stays_near(make_ncnn: MakeNcnn, tiny_raw: RawOutputs, name: str) -> None:
    options = {name: {"use_winograd_convolution": False, "use_packing_layout": False}}
    with NcnnSession(make_ncnn(), providers=name, provider_options=options) as session:
        raw = undecoded(session.run(GREY))
    assert session.providers == (name,)
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.1, atol=0.1)


def test_vulkan_where_there_is_no_gpu(make_ncnn: MakeNcnn, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoGpu:
        def __getattr__(self, name: str) -> Any:
            return (lambda: 0) if name == "get_gpu_count" else getattr(find_ncnn(), name)

    monkeypatch.setattr("solov2_edge.runtime.ncnn_session.find_ncnn", NoGpu)
    with pytest.raises(InputError, match="finds no GPU with Vulkan here"):
        NcnnSession(make_ncnn("one.ncnn"), providers="vulkan")
    assert NcnnSession(make_ncnn("two.ncnn"), providers=("vulkan", "cpu")).providers == ("cpu",)


def test_without_ncnn_the_message_has_the_cure(make_ncnn: MakeNcnn, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    path = make_ncnn()
    monkeypatch.setattr("solov2_edge.runtime.ncnn_network.importlib.import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'solov2-edge\[ncnn\]'"):
        NcnnSession(path)


def test_a_manifest_inside_that_is_no_manifest(make_ncnn: MakeNcnn) -> None:
    path = make_ncnn(sidecar=False)
    (path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        NcnnSession(path)
    (path / "manifest.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(InputError, match="schema version 99"):
        NcnnSession(path)
