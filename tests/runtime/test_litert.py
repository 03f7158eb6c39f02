from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ai_edge_litert.interpreter
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from solov2_edge.errors import InputError, MissingDependencyError, SolovEdgeError
from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.runtime import litert, litert_delegates, litert_package
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.litert_delegates import available_cpus
from solov2_edge.runtime.session import RawOutputs

MakeTflite = Callable[..., Path]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)
OUTPUTS = ("class_scores", "kernels", "mask_features")


@pytest.fixture
def make_tflite(
    tmp_path: Path, tiny_manifest: Manifest, tiny_raw: RawOutputs, tflite_builder: ModuleType
) -> MakeTflite:
    """Write a .tflite file that gives ``raw`` with the input's largest value / 1000 added to the mask features."""

    def make(
        name: str = "tiny.tflite",
        *,
        manifest: Manifest | None = None,
        raw: RawOutputs = tiny_raw,
        embed: bool = True,
        sidecar: bool = True,
        batched: bool = False,
        shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> Path:
        manifest = manifest or replace(tiny_manifest, format="tflite")
        contract = manifest.input
        image = contract.kind == "image"
        plain = (1, contract.height, contract.width, 3) if image else (1, 3, contract.height, contract.width)
        arrays = (raw.class_scores, raw.kernels, raw.mask_features)
        content = tflite_builder.tiny_tflite(
            {key: array[None] if batched else array for key, array in zip(manifest.outputs, arrays, strict=True)},
            shape or plain,
            **{
                "input_name": contract.name,
                "input_type": "uint8" if image else "float32",
                "metadata": {METADATA_KEY: manifest.embedded().to_json().encode()} if embed else None,
                **options,
            },
        )
        path = tmp_path / name
        path.write_bytes(content)
        if sidecar:
            full = replace(manifest, sha256=sha256_of(path), size_bytes=path.stat().st_size)
            manifest_path(path).write_text(full.to_json())
        return path

    return make


def assert_tiny(raw: RawOutputs, expected: RawOutputs, witness: float = 0.1, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(raw.class_scores, expected.class_scores, atol=tolerance)
    np.testing.assert_allclose(raw.kernels, expected.kernels, atol=tolerance)
    np.testing.assert_allclose(raw.mask_features, expected.mask_features + np.float32(witness), atol=tolerance)
    assert {array.dtype.name for array in (raw.class_scores, raw.kernels, raw.mask_features)} == {"float32"}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("signature", [True, False])
@pytest.mark.parametrize("providers", [None, "xnnpack", "builtin", "cpu-reference"])
def test_runs_by_name(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, batched: bool, signature: bool, providers: str | None
) -> None:
    with LitertSession(make_tflite(batched=batched, signature=signature), threads=1, providers=providers) as session:
        assert_tiny(session.run(GREY), tiny_raw)
    assert session.engine.startswith("ai-edge-litert 2.")


def test_what_runs_is_counted(make_tflite: MakeTflite) -> None:
    path = make_tflite()
    assert LitertSession(path).providers == ("XNNPACK (6 of 7 nodes)", "built-in kernels (1 of 7 nodes)")
    assert LitertSession(path, providers="CPU").providers == LitertSession(path).providers
    assert LitertSession(path, providers="builtin").providers == ("built-in kernels (7 of 7 nodes)",)
    assert LitertSession(path, providers="cpu-reference").providers == ("reference kernels (7 of 7 nodes)",)


QUANTISED_INPUTS = [
    ("uint8", None),
    ("uint8", (1.0, 0)),
    ("uint8", (2.0, 5)),
    ("int8", (1.0, -128)),
    ("int16", (0.01, 0)),
]


@pytest.mark.parametrize(("dtype", "quantised"), QUANTISED_INPUTS)
def test_pixels_into_any_input(make_tflite: MakeTflite, tiny_raw: RawOutputs, dtype: str, quantised: Any) -> None:
    session = LitertSession(make_tflite(input_type=dtype, input_quantised=quantised))
    for value in (0, 100, 254):
        assert_tiny(session.run(np.full_like(GREY, value)), tiny_raw, value / 1000, tolerance=2e-5)


def test_pixels_are_told_apart_by_their_place(tflite_builder: ModuleType) -> None:
    """The table of quantised pixels is applied elementwise, whatever the batch's strides."""
    tensor = litert_tensor(dtype="int8", scale=1.0, zero_point=-128)
    batch = np.arange(256, dtype=np.uint8).reshape(1, 8, 8, 4)[:, ::-1, :, ::2]
    np.testing.assert_array_equal(tensor.encode(batch), batch.astype(np.int16) - 128)


@pytest.mark.parametrize(
    ("dtype", "quantised", "tolerance"),
    [
        ("float32", None, 1e-6),
        ("float16", None, 1e-3),
        ("int8", (0.02, -20), 0.011 / 1000),
        ("int16", (1e-4, 0), 1e-6),
        ("uint8", (0.02, 100), 0.011 / 1000),
    ],
)
def test_numbers_into_any_input(
    make_tflite: MakeTflite, tiny_manifest: Manifest, tiny_raw: RawOutputs, dtype: str, quantised: Any, tolerance: float
) -> None:
    manifest = replace(tiny_manifest, format="tflite", input=InputContract("tensor", 64, 96, "pixels"))
    session = LitertSession(make_tflite(manifest=manifest, input_type=dtype, input_quantised=quantised))
    for value in (-1.5, 0.0, 1.73):
        batch = np.full((1, 3, 64, 96), value, np.float32)
        assert_tiny(session.run(batch), tiny_raw, value / 1000, tolerance=tolerance + 1e-6)


def test_numbers_out_of_a_quantised_inputs_range_are_clipped() -> None:
    tensor = litert_tensor(dtype="int8", scale=0.5, zero_point=10)
    numbers = np.array([-1e9, -0.24, 0.26, 1e9], np.float32)
    assert tensor.encode(numbers).tolist() == [-128, 10, 11, 127]
    assert tensor.encode(numbers).dtype == np.int8


def litert_tensor(**changes: Any) -> Any:
    from solov2_edge.runtime.litert_tensors import Tensor

    return Tensor(**{"name": "image", "index": 0, "dtype": "float32", "shape": (1, 8, 8, 2), **changes})


@pytest.mark.parametrize(
    ("dtype", "quantised", "tolerance"),
    [
        ("float16", None, 1e-2),
        ("int8", {"class_scores": (1 / 256, -128), "kernels": (1 / 127, 0), "mask_features": (0.1, 3)}, 0.051),
        ("uint8", {"class_scores": (1 / 255, 0), "kernels": (1 / 127, 0), "mask_features": (0.1, 125)}, 0.051),
        ("int16", dict.fromkeys(OUTPUTS, (0.001, 0)), 0.0006),
    ],
)
def test_any_output_becomes_float32(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, dtype: str, quantised: Any, tolerance: float
) -> None:
    session = LitertSession(make_tflite(output_type=dtype, output_quantised=quantised))
    raw = session.run(GREY)
    assert_tiny(raw, tiny_raw, tolerance=tolerance)
    assert raw.class_scores[3, 0] == pytest.approx(0.9, abs=0.002)
    assert raw.class_scores[0, 0] == 0  # a zero is a zero in any of them


def test_results_stay_when_the_session_runs_again_and_closes(make_tflite: MakeTflite, tiny_raw: RawOutputs) -> None:
    session = LitertSession(make_tflite())
    first = session.run(GREY)
    second = session.run(np.zeros_like(GREY))
    session.close()
    assert_tiny(first, tiny_raw)
    assert_tiny(second, tiny_raw, 0)


@pytest.mark.parametrize(("embed", "sidecar"), [(True, True), (True, False), (False, True)])
def test_the_manifest_comes_from_inside_or_beside(
    make_tflite: MakeTflite, tiny_manifest: Manifest, embed: bool, sidecar: bool
) -> None:
    path = make_tflite(embed=embed, sidecar=sidecar)
    manifest = LitertSession(path).manifest
    assert manifest.embedded() == replace(tiny_manifest, format="tflite")
    assert manifest.size_bytes == path.stat().st_size


def test_an_artefact_without_manifest_is_refused(make_tflite: MakeTflite) -> None:
    with pytest.raises(InputError, match="has no manifest"):
        LitertSession(make_tflite(embed=False, sidecar=False))


def test_an_artefact_that_changed_is_refused(make_tflite: MakeTflite) -> None:
    path = make_tflite()
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="has SHA-256"):
        LitertSession(path)


@pytest.mark.parametrize("length", [0, 1, 10, 500, 6000, -1])
def test_a_damaged_file_gives_one_quiet_sentence(
    make_tflite: MakeTflite, capfd: pytest.CaptureFixture[str], length: int
) -> None:
    path = make_tflite(sidecar=False)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError) as caught:
        LitertSession(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damage_the_metadata_does_not_show_is_the_engines_to_find(make_tflite: MakeTflite, tmp_path: Path) -> None:
    path = make_tflite(sidecar=False)
    data = bytearray(path.read_bytes())
    at = data.index(b"class_scores")
    data[at - 4 : at] = (2**31).to_bytes(4, "little")  # the length of a name
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be opened by ai-edge-litert .*not a valid Flatbuffer"):
        LitertSession(path)


def test_opening_is_quiet(make_tflite: MakeTflite, capfd: pytest.CaptureFixture[str]) -> None:
    LitertSession(make_tflite()).run(GREY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_name": "frame"}, r"takes inputs \['frame'\], its manifest says 'image'"),
        ({"shape": (1, 64, 64, 3)}, r"uint8 \[1, 64, 64, 3\], its manifest says uint8 \[1, 64, 96, 3\]"),
        ({"input_type": "float32"}, r"takes float32"),
        ({"output_type": "int32"}, r"gives class_scores as int32 \[19, 2\], its manifest says real numbers \[19, 2\]"),
    ],
)
def test_a_graph_that_is_not_its_manifests(make_tflite: MakeTflite, wrong: dict[str, Any], message: str) -> None:
    for signature in (True, False):
        with pytest.raises(InputError, match=message):
            LitertSession(make_tflite(**wrong, signature=signature))


def test_a_tensor_artefact_without_a_scale_is_refused(make_tflite: MakeTflite, tiny_manifest: Manifest) -> None:
    manifest = replace(tiny_manifest, format="tflite", input=InputContract("tensor", 64, 96))
    with pytest.raises(InputError, match="takes uint8"):
        LitertSession(make_tflite(manifest=manifest, input_type="uint8"))


def test_outputs_that_are_not_the_manifests(make_tflite: MakeTflite, tiny_raw: RawOutputs) -> None:
    other = RawOutputs(tiny_raw.class_scores[:, :1].copy(), tiny_raw.kernels, tiny_raw.mask_features)
    with pytest.raises(InputError, match=r"gives class_scores as float32 \[19, 1\]"):
        LitertSession(make_tflite(raw=other))
    path = make_tflite(embed=False)
    sidecar = manifest_path(path)
    sidecar.write_text(sidecar.read_text().replace('"class_scores"', '"scores"'))
    with pytest.raises(InputError, match="its manifest says 'scores'"):
        LitertSession(path)


@pytest.mark.parametrize(
    "batch", [GREY[0], GREY.astype(np.float32), GREY[:, :32], GREY.transpose(0, 3, 1, 2), None, [[1]]]
)
def test_a_wrong_batch_is_refused(make_tflite: MakeTflite, batch: Any) -> None:
    with pytest.raises(InputError, match=r"takes a uint8 batch \(1, 64, 96, 3\), got"):
        LitertSession(make_tflite()).run(batch)


def test_a_strided_batch_runs(make_tflite: MakeTflite, tiny_raw: RawOutputs) -> None:
    batch = np.zeros((1, 96, 64, 6), np.uint8)
    batch[:, :, :, 2] = 200
    assert_tiny(LitertSession(make_tflite()).run(batch.transpose(0, 2, 1, 3)[..., ::2]), tiny_raw, 0.2)


def test_a_closed_session_does_not_run(make_tflite: MakeTflite) -> None:
    session = LitertSession(make_tflite())
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(GREY)


def test_a_gpu_is_compared_with_the_cpu_and_the_next_choice_taken(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gpu:
        providers = ("GPU (made up)",)
        factor = np.float32(1)

        def __init__(self, *_: Any) -> None:
            self.closed = False

        def run(self, batch: Any) -> list[Any]:
            features = tiny_raw.mask_features + np.float32(batch.max() / 1000)
            return [tiny_raw.class_scores, tiny_raw.kernels, features * self.factor]

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(litert, "GpuNetwork", Gpu)
    path = make_tflite()
    session = LitertSession(path, providers=("gpu", "xnnpack"))
    assert session.providers == Gpu.providers
    assert_tiny(session.run(GREY), tiny_raw)
    Gpu.factor = np.float32(0.7)
    assert LitertSession(path, providers=("gpu", "xnnpack")).providers[0].startswith("XNNPACK")
    with pytest.raises(InputError, match=r"gives other mask_features with GPU \(made up\) than on the CPU: 10 dB"):
        LitertSession(path, providers="gpu")


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.0, True, "2"])
def test_threads_out_of_range(make_tflite: MakeTflite, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be an integer from 1 to 1024"):
        LitertSession(make_tflite(), threads=threads)


def test_threads_reach_the_engine(make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Watched(Interpreter):  # type: ignore[misc]  # the package has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            seen.append(options.get("num_threads"))
            super().__init__(*args, **options)

    monkeypatch.setattr(ai_edge_litert.interpreter, "Interpreter", Watched)
    LitertSession(make_tflite(), threads=3)
    assert seen[-1] == 3
    monkeypatch.setattr(litert, "available_cpus", lambda: 5)
    LitertSession(make_tflite())
    assert seen[-1] == 5


def test_the_default_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(litert_delegates, "CPU_MAX", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 9, 11, 12}, raising=False)
    assert available_cpus() == 5
    for text, cpus in (("max 100000", 5), ("150000 100000", 2), ("5000 100000", 1), ("900000 100000", 5)):
        quota.write_text(text)
        assert available_cpus() == cpus
    quota.unlink()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1


def test_threads_of_the_caller_take_turns(make_tflite: MakeTflite, tiny_raw: RawOutputs) -> None:
    session = LitertSession(make_tflite(), threads=1)
    wrong: list[str] = []

    def work(value: int) -> None:
        batch = np.full_like(GREY, value)
        for _ in range(50):
            try:
                assert_tiny(session.run(batch), tiny_raw, value / 1000)
            except (AssertionError, SolovEdgeError) as error:
                wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(value,)) for value in (10, 90, 170, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_failing_run_is_one_sentence(make_tflite: MakeTflite) -> None:
    session = LitertSession(make_tflite())

    class Broken:
        def run(self, _: Any) -> None:
            raise RuntimeError("out of memory\nnode 3 failed")

    session._network = Broken()  # type: ignore[assignment]
    with pytest.raises(SolovEdgeError, match=r"while running the network: out of memory node 3 failed$") as caught:
        session.run(GREY)
    assert caught.value.exit_code == 1


def test_an_operator_the_engine_lacks(make_tflite: MakeTflite, tflite_builder: ModuleType) -> None:
    model = tflite_builder.Model()
    source = model.tensor("image", (1, 64, 96, 3), "uint8")
    shapes = {"class_scores": (19, 2), "kernels": (19, 4), "mask_features": (4, 16, 24)}
    outputs = {name: model.tensor(name, shape) for name, shape in shapes.items()}
    model.operator("Peculiar", [source], list(outputs.values()))
    path = make_tflite()
    manifest_path(path).unlink()
    path.write_bytes(model.finish({"image": source}, outputs, metadata=_metadata_of(path)))
    with pytest.raises(InputError, match=r"cannot be opened by ai-edge-litert .* with builtin: .*Peculiar"):
        LitertSession(path)


def _metadata_of(path: Path) -> dict[str, bytes]:
    from solov2_edge.runtime.tflite_file import read_metadata

    return read_metadata(path.read_bytes())


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that packages are not installed."""
    real = importlib.import_module

    def import_module(path: str) -> Any:
        if path.split(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {path.split('.')[0]!r}", name=path.split(".")[0])
        return real(path)

    monkeypatch.setattr(litert_package, "importlib", SimpleNamespace(import_module=import_module))


def provide(monkeypatch: pytest.MonkeyPatch, path: str, **parts: Any) -> None:
    """Put a module of another name in place, with parts of its own."""
    package = path.split(".")[0]
    module = ModuleType(path)
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, path, module)


def test_nothing_installed_names_the_line_that_installs_it(
    make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(monkeypatch, "ai_edge_litert", "tflite_runtime", "tensorflow")
    with pytest.raises(MissingDependencyError, match=r"pip install 'solov2-edge\[tflite\]'") as caught:
        LitertSession(make_tflite())
    assert caught.value.package == "ai-edge-litert"
    assert caught.value.exit_code == 4


def test_the_older_package_runs_too(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ai_edge_litert.interpreter
    parts = {name: getattr(real, name) for name in ("Interpreter", "OpResolverType", "load_delegate")}
    absent(monkeypatch, "ai_edge_litert", "tensorflow")
    provide(monkeypatch, "tflite_runtime.interpreter", **parts)
    session = LitertSession(make_tflite())
    assert session.engine.startswith("tflite-runtime ")
    assert_tiny(session.run(GREY), tiny_raw)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)
    with pytest.raises(InputError, match=r"gpu needs ai-edge-litert 2.0 or later, but tflite-runtime"):
        LitertSession(make_tflite(), providers="gpu")


def test_tensorflows_copy_runs_too(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ai_edge_litert.interpreter

    def warning_interpreter(**options: Any) -> Any:
        import warnings

        warnings.warn("    Warning: tf.lite.Interpreter is deprecated and is scheduled for deletion", stacklevel=2)
        return real.Interpreter(**options)

    experimental = SimpleNamespace(OpResolverType=real.OpResolverType, load_delegate=real.load_delegate)
    absent(monkeypatch, "ai_edge_litert", "tflite_runtime")
    provide(monkeypatch, "tensorflow.lite", Interpreter=warning_interpreter, experimental=experimental)
    session = LitertSession(make_tflite())
    assert session.engine.startswith("tensorflow ")
    assert_tiny(session.run(GREY), tiny_raw)


def test_an_old_wheel_under_numpy_2_is_explained(make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch) -> None:
    def interpreter(**_: Any) -> Any:
        try:
            raise ImportError("numpy.core.multiarray failed to import")
        except ImportError as error:
            raise SystemError(
                "<built-in method CreateWrapperFromFile> returned a result with an exception set"
            ) from error

    absent(monkeypatch, "ai_edge_litert", "tensorflow")
    provide(
        monkeypatch,
        "tflite_runtime.interpreter",
        Interpreter=interpreter,
        OpResolverType=ai_edge_litert.interpreter.OpResolverType,
    )
    with pytest.raises(InputError, match=r"was built for numpy 1 .*pip install 'solov2-edge\[tflite\]', or numpy<2"):
        LitertSession(make_tflite())


def test_a_broken_package_is_not_called_missing(make_tflite: MakeTflite, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(path: str) -> Any:
        if path.startswith("ai_edge_litert"):
            raise ImportError("libpywrap.so: cannot open shared object file")
        raise ModuleNotFoundError("no such module", name=path.split(".")[0])

    monkeypatch.setattr(litert_package, "importlib", SimpleNamespace(import_module=import_module))
    with pytest.raises(SolovEdgeError, match=r"ai-edge-litert is installed but cannot be imported \(libpy") as caught:
        LitertSession(make_tflite())
    assert not isinstance(caught.value, MissingDependencyError)
