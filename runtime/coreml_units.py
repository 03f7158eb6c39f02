"""Core ML's compute units: the names a user gives, and what Core ML says it runs a program's operators on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from solov2_edge.errors import InputError, require

__all__ = ["UNITS", "placement", "unit_requests"]

UNITS = ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne")
# Class names of coremltools' compute devices.
DEVICES = {
    "MLNeuralEngineComputeDevice": "neural engine",
    "MLGPUComputeDevice": "gpu",
    "MLCPUComputeDevice": "cpu",
}


def unit_requests(providers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the compute units to try, in order.

    Args:
        providers: one of :data:`UNITS`, or several as a fallback list; None is ``"all"``.

    Raises:
        InputError: an unknown name, or none.
    """
    names = ("all",) if providers is None else (providers,) if isinstance(providers, str) else tuple(providers)
    require(len(names) > 0, f"an empty list of providers names no compute units; expected {', '.join(UNITS)}")
    for name in names:
        if name not in UNITS:
            raise InputError(f"{name!r} names no compute units of Core ML; expected one of {', '.join(UNITS)}")
    return names


def placement(coremltools: Any, model: Any, units: str) -> tuple[str, ...]:
    """Return what an open model runs on, first the device with most operators.

    Core ML tells its plan from macOS 14.4 on. Where it does not, the answer is what it was allowed to use.

    Args:
        coremltools: the module.
        model: an open ``MLModel``.
        units: one of :data:`UNITS`, which the model was opened with.

    Returns:
        For example ``("neural engine (280 of 293 operators)", "cpu (13 of 293 operators)")``, or
        ``("all (what it chooses is not known)",)``.
    """
    try:
        plan = coremltools.models.compute_plan.MLComputePlan.load_from_path(
            model.get_compiled_model_path(), compute_units=coremltools.ComputeUnit[units.upper()]
        )
        operations = plan.model_structure.program.functions["main"].block.operations
        usages = [plan.get_compute_device_usage_for_mlprogram_operation(operation) for operation in operations]
    except Exception:  # noqa: BLE001 - coremltools raises Exception itself, and a plan is only for information
        return (f"{units} (what it chooses is not known)",)
    # Constants have no usage.
    chosen = Counter(_device(usage.preferred_compute_device) for usage in usages if usage is not None)
    whole = sum(chosen.values())
    return tuple(f"{device} ({count} of {whole} operators)" for device, count in chosen.most_common())


def _device(device: Any) -> str:
    name = type(device).__name__
    return DEVICES.get(name, name)
