"""What OpenVINO is asked to run an artefact on: a device, the precision it computes floats in, and its settings.

Left to itself, OpenVINO computes in bfloat16 or float16 wherever a device can, which finds other instances, and says
nothing. Here it is float32 unless another precision is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.threads import ort_threads

__all__ = ["DEFAULT_PROVIDERS", "DeviceRequest", "device_requests"]

DEFAULT_PROVIDERS = ("cpu",)
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}  # by OpenVINO's names of the types
PRECISION = "INFERENCE_PRECISION_HINT"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One device to try.

    Attributes:
        device: OpenVINO's name of it, for example ``CPU`` or ``GPU.1``.
        properties: OpenVINO's settings for it.
    """

    device: str
    properties: dict[str, Any]


def device_requests(
    providers: str | Sequence[str] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    threads: int | None,
    core: Any,
) -> list[DeviceRequest]:
    """Return the devices to try, in order.

    Args:
        providers: ``cpu``, ``gpu``, ``gpu.1``, ``npu``: one name means exactly that one, a sequence is a fallback
            list. ``-bf16`` or ``-f16`` behind it, as in ``cpu-bf16``, lets the device compute floats in that.
        options: provider, named as in ``providers`` -> OpenVINO's properties, which go before those set here.
        threads: of the CPU; None: one per physical core this process may use.
        core: the :class:`openvino.Core`.

    Raises:
        InputError: nothing asked for is there, a name is unknown or stands twice, a device cannot compute in the
            precision asked for, or options belong to a provider that was not asked for.
    """
    asked = [_split(name) for name in _as_names(providers)]
    require(len(asked) > 0, "providers must name at least one, got none; use providers='cpu'")
    require(len(set(asked)) == len(asked), f"providers name one twice: {providers}; name each once")
    settings = {_split(name): dict(values) for name, values in (options or {}).items()}
    stray = sorted("-".join(name).lower() for name in set(settings) - set(asked))
    require(not stray, f"provider_options hold {', '.join(stray)}, which providers do not ask for; add it there")
    there = core.available_devices
    usable = [name for name in asked if name[0] in there or f"{name[0]}.0" in there]
    require(
        bool(usable),
        f"{' and '.join(device for device, _ in asked)} not available in OpenVINO, which finds {', '.join(there)}; "
        "install the device's driver, or give a fallback list such as providers=('gpu', 'cpu')",
    )
    return [_request(name, settings.get(name, {}), threads, core) for name in usable]


def _request(name: tuple[str, str], options: dict[str, Any], threads: int | None, core: Any) -> DeviceRequest:
    device, precision = name
    known = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    require(
        CAPABILITIES[precision] in known or PRECISION in options,
        f"{device} does not compute in {precision} but in {', '.join(known)}; name the device with one of them, such "
        f"as {device.lower()}-f16",
    )
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", PRECISION: precision}
    if device == "CPU":
        # Threads bound to cores stay on those that the application's other work needs.
        properties["ENABLE_CPU_PINNING"] = False
        count = ort_threads() if threads is None else threads
        if count is not None:
            properties["INFERENCE_NUM_THREADS"] = count
    return DeviceRequest(device, {**properties, **options})


def _split(name: str) -> tuple[str, str]:
    """Return OpenVINO's names of a provider's device and precision."""
    require(isinstance(name, str) and name != "", f"a provider is a name such as cpu or gpu, got {name!r}")
    device, _, precision = name.partition("-")
    precision = precision.lower() or "f32"
    if precision not in CAPABILITIES or not device:
        raise InputError(
            f"unknown provider {name!r}; expected a device such as cpu or gpu, perhaps with a precision behind it "
            f"({', '.join(CAPABILITIES)}): cpu-bf16"
        )
    return device.upper(), precision


def _as_names(providers: str | Sequence[str] | None) -> Sequence[str]:
    if providers is None:
        return DEFAULT_PROVIDERS
    require(
        isinstance(providers, str | Sequence),
        f"providers must be a name such as cpu, or a fallback list of names, got {providers!r}",
    )
    return (providers,) if isinstance(providers, str) else tuple(providers)
