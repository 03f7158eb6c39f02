from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.manifest import InputContract, Manifest, manifest_path
from solov2_edge.runtime import load
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.session import RawOutputs
from solov2_edge.runtime.vino import VinoSession
from solov2_edge.runtime.vino_import import openvino

MakeOnnx = Callable[..., Path]
GREY = np.full((1, 64, 96, 3), 100, np.uint8)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_runs_and_gives_float32(make_onnx: MakeOnnx, tiny_raw: RawOutputs, half: bool, batched: bool) -> None:
    with VinoSession(make_onnx(half=half, batched=batched), threads=1) as session:
        raw = undecoded(session.run(GREY))
    np.testing.assert_allclose(raw.class_scores, tiny_raw.class_scores, atol=1e-3)
    np.testing.assert_array_equal(raw.kernels, tiny_raw.kernels)
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.1, atol=1e-2)
    assert raw.kernels.dtype == np.float32
    assert openvino.__version__.startswith(session.engine.removeprefix("openvino "))
    assert session.providers == ("CPU in f32",)


def test_a_tensor_artefact(make_onnx: MakeOnnx, tiny_manifest: Manifest, tiny_raw: RawOutputs) -> None:
    manifest = replace(tiny_manifest, input=InputContract("tensor", 64, 96, "pixels"))
    session = VinoSession(make_onnx(manifest=manifest))
    raw = undecoded(session.run(np.full((1, 3, 64, 96), 200, np.float32)))
    np.testing.assert_allclose(raw.mask_features, tiny_raw.mask_features + 0.2, atol=1e-5)


@pytest.mark.parametrize(("embed", "sidecar"), [(True, True), (True, False), (False, True)])
def test_the_manifest_comes_from_inside_or_beside(
    make_onnx: MakeOnnx, tiny_manifest: Manifest, embed: bool, sidecar: bool
) -> None:
    path = make_onnx(embed=embed, sidecar=sidecar)
    manifest = VinoSession(path).manifest
    assert manifest.embedded() == tiny_manifest
    assert manifest.size_bytes == path.stat().st_size


def test_an_artefact_that_changed_or_has_no_manifest_is_refused(make_onnx: MakeOnnx) -> None:
    with pytest.raises(InputError, match="has no manifest"):
        VinoSession(make_onnx(embed=False, sidecar=False))
    path = make_onnx()
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="has SHA-256"):
        VinoSession(path)


@pytest.mark.parametrize("length", [1, 10, 500, -1])
def test_a_damaged_file_gives_one_quiet_sentence(
    make_onnx: MakeOnnx, capfd: pytest.CaptureFixture[str], length: int
) -> None:
    path = make_onnx(sidecar=False)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError) as caught:
        VinoSession(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_name": "frame"}, r"takes inputs \['frame'\], its manifest says 'image'"),
        ({"input_shape": (1, 64, 64, 3)}, r"\[1,64,64,3\], its manifest says uint8 \[1, 64, 96, 3\]"),
        ({"input_type": "float32"}, r"takes f32 \[1,64,96,3\]"),
    ],
)
def test_a_graph_whose_input_is_not_its_manifests(make_onnx: MakeOnnx, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VinoSession(make_onnx(**wrong))


def test_a_graph_whose_outputs_are_not_its_manifests(
    make_onnx: MakeOnnx, tiny_raw: RawOutputs, edit_sidecar: Callable[..., None]
) -> None:
    other = RawOutputs(tiny_raw.class_scores[:, :1].copy(), tiny_raw.kernels, tiny_raw.mask_features)
    with pytest.raises(InputError, match=r"gives class_scores as f32 \[1,19,1\], .* float \[19, 2\]"):
        VinoSession(make_onnx(raw=other))
    path = make_onnx(embed=False)
    edit_sidecar(path, outputs=["scores", "kernels", "mask_features"])
    with pytest.raises(InputError, match="its manifest says 'scores'"):
        VinoSession(path)


def test_a_symbolic_size_becomes_the_manifests(make_onnx: MakeOnnx) -> None:
    session = VinoSession(make_onnx(input_shape=("n", 64, "w", 3)))
    assert undecoded(session.run(GREY)).kernels.shape == (19, 4)
    with pytest.raises(InputError, match="takes a uint8 batch"):
        session.run(np.repeat(GREY, 2, axis=0))


@pytest.mark.parametrize(
    "batch", [GREY[0], GREY.astype(np.float32), GREY[:, :32], GREY.transpose(0, 3, 1, 2), None, [[1]]]
)
def test_a_wrong_batch_is_refused(make_onnx: MakeOnnx, batch: Any) -> None:
    with pytest.raises(InputError, match=r"takes a uint8 batch \(1, 64, 96, 3\), got"):
        VinoSession(make_onnx()).run(batch)


def test_strided_and_read_only_batches_run(make_onnx: MakeOnnx, tiny_raw: RawOutputs) -> None:
    batch = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(1, 64, 96, 3)
    batch.flags.writeable = False
    session = VinoSession(make_onnx())
    for given in (batch, batch[:, ::-1, :, ::-1]):
        np.testing.assert_allclose(undecoded(session.run(given)).mask_features, tiny_raw.mask_features + 0.255)


def test_outputs_stay_as_they_are_whatever_runs_next(make_onnx: MakeOnnx, tiny_raw: RawOutputs) -> None:
    path = make_onnx()
    session, other = VinoSession(path), VinoSession(path)
    first = undecoded(session.run(GREY * 2))
    second = undecoded(session.run(GREY))
    other.run(GREY * 0)
    session.close()
    del session
    gc.collect()
    np.testing.assert_allclose(first.mask_features, tiny_raw.mask_features + 0.2, rtol=1e-6)
    np.testing.assert_allclose(second.mask_features, tiny_raw.mask_features + 0.1, rtol=1e-6)
    for array in (first.kernels, first.mask_features):
        assert array.flags.owndata or (array.base is not None and array.base.flags.owndata)
    np.testing.assert_allclose(undecoded(other.run(GREY)).mask_features, second.mask_features)


def test_threads_may_share_a_session_and_close_it(make_onnx: MakeOnnx, tiny_raw: RawOutputs) -> None:
    session = VinoSession(make_onnx(), threads=2)
    wrong: list[float] = []

    def work(value: int) -> None:
        batch = np.full((1, 64, 96, 3), value, np.uint8)
        for _ in range(50):
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


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.0, True, "2"])
def test_threads_out_of_range(make_onnx: MakeOnnx, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be an integer from 1 to 1024"):
        VinoSession(make_onnx(), threads=threads)


def test_a_failing_run_is_one_sentence(make_onnx: MakeOnnx) -> None:
    session = VinoSession(make_onnx())

    class Broken:
        def get_input_tensor(self) -> None:
            raise RuntimeError("Exception from src/inference.cpp:84:\nout of memory\nstack of the engine")

    session._request = Broken()
    with pytest.raises(SolovEdgeError, match=r"failed while running the network: out of memory$") as caught:
        session.run(GREY)
    assert caught.value.exit_code == 1


def test_load_opens_it_where_it_is_asked_for(make_onnx: MakeOnnx) -> None:
    path = make_onnx()
    frame = np.zeros((60, 80, 3), np.uint8)
    with (
        load(path, engine="openvino", threads=1, providers="cpu", score_threshold=0.3) as here,
        load(path, threads=1, score_threshold=0.3) as there,
    ):
        assert here.engine.startswith("openvino ")
        assert there.engine.startswith("onnxruntime ")
        found, wanted = here(frame), there(frame)
    assert len(found) == len(wanted) == 1
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    with pytest.raises(InputError, match=r"\.tflite artefacts run in engine 'litert', got engine='openvino'"):
        load(path.with_suffix(".tflite"), engine="openvino")


def run_python(code: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout


def test_a_missing_openvino_names_the_line_that_installs_it(make_onnx: MakeOnnx) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from solov2_edge.runtime import load\n"
        "from solov2_edge.errors import MissingDependencyError\n"
        "try:\n"
        "    load(sys.argv[1], engine='openvino')\n"
        "except MissingDependencyError as error:\n"
        "    print(error.exit_code, error)\n"
    )
    assert run_python(code, str(make_onnx())) == (
        "4 running .onnx artefacts in OpenVINO needs openvino, which is not installed: "
        "pip install 'solov2-edge[openvino]'\n"
    )


def test_opening_it_reports_to_nobody() -> None:
    code = (
        "import sys, solov2_edge.runtime.vino\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')], 'openvino' in sys.modules)\n"
    )
    assert run_python(code) == "[] True\n"


def test_sidecars_are_checked_before_the_engine_sees_the_file(make_onnx: MakeOnnx) -> None:
    path = make_onnx()
    manifest_path(path).write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        VinoSession(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the signal stacks of Linux")
def test_signals_are_still_handled_when_sessions_were_closed_in_the_order_they_were_opened(make_onnx: MakeOnnx) -> None:
    code = (
        "import faulthandler, gc, signal\n"
        "from solov2_edge.runtime.vino import VinoSession\n"
        "faulthandler.enable()\n"  # has a signal stack, as programs in other languages have
        "handled = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: handled.append(1))\n"
        f"sessions = [VinoSession({str(make_onnx())!r}, threads=1) for _ in range(2)]\n"
        "while sessions:\n"
        "    sessions.pop(0).close()\n"
        "    gc.collect()\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "assert handled\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr or done.returncode
