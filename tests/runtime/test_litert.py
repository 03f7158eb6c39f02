from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import ai_edge_litert.interpreter
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest, manifest_path
from solov2_edge.runtime import litert, litert_delegates
from solov2_edge.runtime.litert import LitertSession
from solov2_edge.runtime.litert_delegates import available_cpus
from solov2_edge.runtime.session import RawOutputs

MakeTflite = Callable[..., Path]
AssertTiny = Callable[..., None]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("signature", [True, False])
@pytest.mark.parametrize("providers", [None, "xnnpack", "builtin", "cpu-reference"])
def test_runs_by_name(
    make_tflite: MakeTflite, batched: bool, signature: bool, providers: str | None, assert_tiny: AssertTiny
) -> None:
    with LitertSession(make_tflite(batched=batched, signature=signature), threads=1, providers=providers) as session:
        assert_tiny(session.run(GREY))
    assert session.engine.startswith("ai-edge-litert 2.")


def test_what_runs_is_counted(make_tflite: MakeTflite) -> None:
    path = make_tflite()
    assert LitertSession(path).providers == ("XNNPACK (6 of 7 nodes)", "built-in kernels (1 of 7 nodes)")
    assert LitertSession(path, providers="CPU").providers == LitertSession(path).providers
    assert LitertSession(path, providers="builtin").providers == ("built-in kernels (7 of 7 nodes)",)
    assert LitertSession(path, providers="cpu-reference").providers == ("reference kernels (7 of 7 nodes)",)


def test_results_stay_when_the_session_runs_again_and_closes(make_tflite: MakeTflite, assert_tiny: AssertTiny) -> None:
    session = LitertSession(make_tflite())
    first = session.run(GREY)
    second = session.run(np.zeros_like(GREY))
    session.close()
    assert_tiny(first)
    assert_tiny(second, 0)


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


def test_a_strided_batch_runs(make_tflite: MakeTflite, assert_tiny: AssertTiny) -> None:
    batch = np.zeros((1, 96, 64, 6), np.uint8)
    batch[:, :, :, 2] = 200
    assert_tiny(LitertSession(make_tflite()).run(batch.transpose(0, 2, 1, 3)[..., ::2]), 0.2)


def test_a_closed_session_does_not_run(make_tflite: MakeTflite) -> None:
    session = LitertSession(make_tflite())
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(GREY)


def test_a_gpu_is_compared_with_the_cpu_and_the_next_choice_taken(
    make_tflite: MakeTflite, tiny_raw: RawOutputs, monkeypatch: pytest.MonkeyPatch, assert_tiny: AssertTiny
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
    assert_tiny(session.run(GREY))
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


def test_threads_of_the_caller_take_turns(make_tflite: MakeTflite, assert_tiny: AssertTiny) -> None:
    session = LitertSession(make_tflite(), threads=1)
    wrong: list[str] = []

    def work(value: int) -> None:
        batch = np.full_like(GREY, value)
        for _ in range(50):
            try:
                assert_tiny(session.run(batch), value / 1000)
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
