from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.threads import ort_threads
from solov2_edge.runtime.vino import VinoSession
from solov2_edge.runtime.vino_devices import device_requests
from solov2_edge.runtime.vino_import import openvino


class Devices:
    """A machine with a processor, two GPUs and an NPU."""

    available_devices = ("CPU", "GPU.0", "GPU.1", "NPU")

    def get_property(self, device: str, name: str) -> list[str]:
        assert name == "OPTIMIZATION_CAPABILITIES"
        known = {"CPU": ["BF16", "FP32", "INT8"], "NPU": ["FP16", "INT8"]}
        return known.get(device, ["FP32", "FP16", "INT8"])


def asked(providers: Any, options: Any = None, threads: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    return [(each.device, each.properties) for each in device_requests(providers, options, threads, Devices())]


def test_float32_on_the_cpu_with_one_thread_per_core_unless_asked_otherwise() -> None:
    ((device, properties),) = asked(None)
    assert (device, properties["INFERENCE_PRECISION_HINT"], properties["PERFORMANCE_HINT"]) == ("CPU", "f32", "LATENCY")
    assert properties.get("INFERENCE_NUM_THREADS") == ort_threads()
    assert asked("CPU", threads=3)[0][1]["INFERENCE_NUM_THREADS"] == 3


def test_other_devices_and_precisions_by_name() -> None:
    precisions = [(d, p["INFERENCE_PRECISION_HINT"]) for d, p in asked(["gpu-f16", "GPU.1", "npu-F16", "cpu-bf16"])]
    assert precisions == [("GPU", "f16"), ("GPU.1", "f32"), ("NPU", "f16"), ("CPU", "bf16")]
    assert "INFERENCE_NUM_THREADS" not in asked("gpu", threads=2)[0][1]


def test_a_list_leaves_out_what_is_not_there() -> None:
    assert [device for device, _ in asked(("gpu.7", "cpu"))] == ["CPU"]


def test_options_go_before_what_is_set_here() -> None:
    ((_, properties),) = asked("cpu", {"CPU": {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 5}}, 2)
    assert (properties["INFERENCE_PRECISION_HINT"], properties["INFERENCE_NUM_THREADS"]) == ("bf16", 5)


@pytest.mark.parametrize(
    ("providers", "options", "message"),
    [
        ("cpu-int4", None, "unknown provider 'cpu-int4'; expected a device such as cpu or gpu"),
        ("", None, "a provider is a name such as cpu or gpu, got ''"),
        ((), None, "must name at least one"),
        (("cpu", "CPU-f32"), None, "name one twice"),
        (7, None, "providers must be a name such as cpu, or a fallback list of names, got 7"),
        ((7,), None, "a provider is a name such as cpu or gpu, got 7"),
        ("cuda", None, "CUDA not available in OpenVINO, which finds CPU, GPU.0, GPU.1, NPU; "),
        ("cpu-f16", None, "CPU does not compute in f16 but in BF16, FP32, INT8; "),
        ("npu", None, "NPU does not compute in f32 but in FP16, INT8; name .* such as npu-f16"),
        ("cpu", {"gpu": {}}, "provider_options hold gpu-f32, which providers do not ask for"),
    ],
)
def test_wrong_provider_arguments(providers: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        asked(providers, options)
    assert "\n" not in str(caught.value)


def test_settings_reach_the_engine(make_onnx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = openvino.Core.compile_model

    def compile_model(core: Any, model: Any, device: str, properties: dict[str, Any]) -> Any:
        compiled = real(core, model, device, properties)
        for name in ("INFERENCE_NUM_THREADS", "PERFORMANCE_HINT", "NUM_STREAMS", "ENABLE_CPU_PINNING"):
            seen[name] = compiled.get_property(name)
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    VinoSession(make_onnx(), threads=1)
    assert seen["INFERENCE_NUM_THREADS"] == 1
    assert "LATENCY" in str(seen["PERFORMANCE_HINT"]).upper()
    assert (seen["NUM_STREAMS"], seen["ENABLE_CPU_PINNING"]) == (1, False)


def test_options_the_engine_does_not_know_are_one_sentence(make_onnx: Any) -> None:
    path: Path = make_onnx()
    with pytest.raises(InputError, match=r"cannot be opened by openvino .* on CPU: .*NO_SUCH_THING") as caught:
        VinoSession(path, provider_options={"cpu": {"NO_SUCH_THING": 1}}, providers="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"not available in OpenVINO, which finds .*CPU"):
        VinoSession(path, providers="gpu.9")
