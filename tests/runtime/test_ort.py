from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest, manifest_path
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.ort import OrtSession
from solov2_edge.runtime.ort_providers import provider_name, provider_requests
from solov2_edge.runtime.ort_tensorrt import CACHE_VARIABLE
from solov2_edge.runtime.session import RawOutputs

MakeOnnx = Callable[..., Path]
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
GREY = np.full((1, 64, 96, 3), 100, np.uint8)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_runs_and_gives_float32(make_onnx: MakeOnnx, tiny_raw: RawOutputs, half: bool, batched: bool) -> None:
    with OrtSession(make_onnx(half=half, batched=batched), threads=1) as session:
        raw = undecoded(session.run(GREY))
    np.testing.assert_allclose(raw.class_scores, tiny_raw.class_scores, atol=1e-3)
    np.testing.assert_array_equal(raw.kernels, tiny_raw.kernels)
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.1, atol=1e-2)
    assert raw.kernels.dtype == np.float32
    assert session.engine == f"onnxruntime {onnxruntime.__version__}"
    assert session.providers == (CPU,)


def test_a_tensor_artefact(make_onnx: MakeOnnx, tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    manifest = replace(tiny_manifest, input=InputContract("tensor", 64, 96, "pixels"))
    session = OrtSession(make_onnx(manifest=manifest))
    raw = undecoded(session.run(np.full((1, 3, 64, 96), 200, np.float32)))
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.2, atol=1e-5)


@pytest.mark.parametrize(("embed", "sidecar"), [(True, True), (True, False), (False, True)])
def test_the_manifest_comes_from_inside_or_beside(
    make_onnx: MakeOnnx, tiny_manifest: Manifest, embed: bool, sidecar: bool
) -> None:
    path = make_onnx(embed=embed, sidecar=sidecar)
    manifest = OrtSession(path).manifest
    assert manifest.embedded() == tiny_manifest
    assert manifest.size_bytes == path.stat().st_size


def test_an_artefact_without_manifest_is_refused(make_onnx: MakeOnnx) -> None:
    with pytest.raises(InputError, match="has no manifest"):
        OrtSession(make_onnx(embed=False, sidecar=False))


def test_an_artefact_that_changed_is_refused(make_onnx: MakeOnnx) -> None:
    path = make_onnx()
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="has SHA-256"):
        OrtSession(path)


@pytest.mark.parametrize("length", [1, 10, 500, -1])
def test_a_damaged_file_gives_one_quiet_sentence(
    make_onnx: MakeOnnx, capfd: pytest.CaptureFixture[str], length: int
) -> None:
    path = make_onnx(sidecar=False)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError) as caught:
        OrtSession(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_name": "frame"}, r"takes inputs \['frame'\], its manifest says 'image'"),
        ({"input_shape": (1, 64, 64, 3)}, r"\[1, 64, 64, 3\], its manifest says uint8 \[1, 64, 96, 3\]"),
        ({"input_type": "float32"}, r"takes tensor\(float\)"),
    ],
)
def test_a_graph_whose_input_is_not_its_manifests(make_onnx: MakeOnnx, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OrtSession(make_onnx(**wrong))


def test_a_graph_whose_outputs_are_not_its_manifests(
    make_onnx: MakeOnnx, tiny_manifest: Manifest, tiny_raw: RawOutputs, edit_sidecar: Callable[..., None]
) -> None:
    other = RawOutputs(tiny_raw.class_scores[:, :1].copy(), tiny_raw.kernels, tiny_raw.mask_features)
    with pytest.raises(InputError, match=r"gives class_scores as tensor\(float\) \[1, 19, 1\], .* float \[19, 2\]"):
        OrtSession(make_onnx(raw=other))
    path = make_onnx(embed=False)
    edit_sidecar(path, outputs=["scores", "kernels", "mask_features"])
    with pytest.raises(InputError, match="its manifest says 'scores'"):
        OrtSession(path)


def test_a_symbolic_size_is_checked_when_run(make_onnx: MakeOnnx) -> None:
    session = OrtSession(make_onnx(input_shape=("n", 64, 96, 3)))
    assert undecoded(session.run(GREY)).kernels.shape == (19, 4)
    with pytest.raises(InputError, match="takes a uint8 batch"):
        session.run(np.repeat(GREY, 2, axis=0))


@pytest.mark.parametrize(
    "batch", [GREY[0], GREY.astype(np.float32), GREY[:, :32], GREY.transpose(0, 3, 1, 2), None, [[1]]]
)
def test_a_wrong_batch_is_refused(make_onnx: MakeOnnx, batch: Any) -> None:
    with pytest.raises(InputError, match=r"takes a uint8 batch \(1, 64, 96, 3\), got"):
        OrtSession(make_onnx()).run(batch)


def test_a_strided_batch_runs(make_onnx: MakeOnnx) -> None:
    batch = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(1, 64, 96, 3)
    session = OrtSession(make_onnx())
    np.testing.assert_array_equal(
        undecoded(session.run(batch[:, ::-1, :, ::-1])).mask_features,
        undecoded(session.run(batch.copy())).mask_features,
    )


def test_a_closed_session_does_not_run(make_onnx: MakeOnnx) -> None:
    session = OrtSession(make_onnx())
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(GREY)


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.0, True, "2"])
def test_threads_out_of_range(make_onnx: MakeOnnx, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be an integer from 1 to 1024"):
        OrtSession(make_onnx(), threads=threads)


def test_threads_reach_the_engine(make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = opened_with(monkeypatch, lambda providers: [CPU])
    OrtSession(make_onnx(), threads=3)
    assert seen[0][0].intra_op_num_threads == 3
    assert seen[0][0].inter_op_num_threads == 1


@pytest.mark.parametrize("providers", ["cpu", "CPU", CPU, ("cpu",), ["cuda", "cpu"], ("tensorrt", "cuda", "cpu"), None])
def test_providers_that_end_on_the_cpu(make_onnx: MakeOnnx, providers: Any) -> None:
    assert OrtSession(make_onnx(), providers=providers).providers == (CPU,)


@pytest.mark.parametrize("providers", ["cuda", "tensorrt", "coreml", "OpenVINOExecutionProvider", ("cuda", "tensorrt")])
def test_what_is_not_available_is_an_error(make_onnx: MakeOnnx, providers: Any) -> None:
    with pytest.raises(InputError, match=f"not available in this ONNX Runtime, which has .*{CPU}"):
        OrtSession(make_onnx(), providers=providers)


def opened_with(
    monkeypatch: pytest.MonkeyPatch, become: Callable[[list[str]], list[str]]
) -> list[tuple[Any, Any, Any]]:
    """Pretend that CUDA and TensorRT were built in and that sessions come up with what ``become`` says."""
    real, seen = onnxruntime.InferenceSession, []

    def open_session(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        seen.append((options, providers, enable_fallback))
        got = become([name for name, _ in providers])
        session = real(path, options, providers=[CPU])
        session.get_providers = lambda: got
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    return seen


def test_a_single_provider_that_falls_away_silently_is_an_error(
    make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = opened_with(monkeypatch, lambda names: [CPU])
    with pytest.raises(InputError, match=r"CUDAExecutionProvider was asked for, .* fell back to CPUExecutionProvider"):
        OrtSession(make_onnx(), providers="cuda")
    assert [(providers, fallback) for _, providers, fallback in seen] == [([(CUDA, {})], 0)]


def test_a_fallback_list_goes_on_to_what_comes_up(
    make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    seen = opened_with(monkeypatch, lambda names: [n for n in names if n != TENSORRT])
    session = OrtSession(
        make_onnx(), providers=("tensorrt", "cuda", "cpu"), provider_options={"cuda": {"device_id": 1}}
    )
    assert session.providers == (CUDA, CPU)
    assert [[name for name, _ in providers] for _, providers, _ in seen] == [[TENSORRT, CUDA, CPU], [CUDA, CPU]]
    assert [providers[-2:] for _, providers, _ in seen] == [[(CUDA, {"device_id": 1}), (CPU, {})]] * 2


def test_a_fallback_list_survives_a_provider_that_raises(make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    def become(names: list[str]) -> list[str]:
        if names[0] == CUDA:
            raise RuntimeError("no driver\nand much more")
        return names

    opened_with(monkeypatch, become)
    assert OrtSession(make_onnx(), providers=("cuda", "cpu")).providers == (CPU,)
    with pytest.raises(InputError, match="with CUDAExecutionProvider: no driver; "):
        OrtSession(make_onnx(), providers="cuda")


def test_a_failing_run_is_one_sentence(make_onnx: MakeOnnx) -> None:
    session = OrtSession(make_onnx())

    class Broken:
        def run(self, *_: Any) -> None:
            raise RuntimeError("out of memory\nstack of the engine")

    session._session = Broken()
    with pytest.raises(SolovEdgeError, match=r"failed while running the network: out of memory$") as caught:
        session.run(GREY)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("providers", "options", "message"),
    [
        ("cdua", None, "unknown provider 'cdua'; expected cpu, cuda, tensorrt, coreml, or a full name"),
        ((), None, "must name at least one"),
        (("cpu", CPU), None, "name one twice"),
        (7, None, "providers must be a name such as cpu, or a fallback list of names, got 7"),
        ((7,), None, "a provider is a name such as cpu or cuda, got 7"),
        ("cpu", {"cuda": {"device_id": 0}}, "provider_options hold CUDAExecutionProvider"),
    ],
)
def test_wrong_provider_arguments(providers: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        provider_requests(providers, options, [CPU])


def test_provider_requests() -> None:
    def names(providers: str | Sequence[str], available: Sequence[str]) -> list[list[str]]:
        return [[name for name, _ in request] for request in provider_requests(providers, None, available)]

    assert names("cuda", [CUDA, CPU]) == [[CUDA]]
    assert names(("tensorrt", "cuda", "cpu"), [CUDA, CPU]) == [[CUDA, CPU], [CPU]]
    assert names(("cpu", "cuda"), [CUDA, CPU]) == [[CPU, CUDA], [CUDA]]
    assert provider_name("OpenVINOExecutionProvider") == "OpenVINOExecutionProvider"


def test_a_missing_onnxruntime_names_the_line_that_installs_it(make_onnx: MakeOnnx) -> None:
    path = make_onnx()
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from solov2_edge.runtime import load\n"
        "from solov2_edge.errors import MissingDependencyError\n"
        "try:\n"
        "    load(sys.argv[1])\n"
        "except MissingDependencyError as error:\n"
        "    print(error.exit_code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "4 running .onnx artefacts needs onnxruntime, which is not installed: pip install 'solov2-edge[onnx]'\n"
    )


def test_sidecars_are_checked_before_the_engine_sees_the_file(
    make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_onnx()
    manifest_path(path).write_text("{")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match="not JSON"):
        OrtSession(path)
