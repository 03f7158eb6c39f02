"""What ncnn is asked to run an artefact on, and how it computes.

Left to itself, ncnn computes in float16 wherever a processor can, which finds other instances, and says nothing. Here
it is float32 unless another precision is asked for by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.litert_delegates import available_cpus
from solov2_edge.runtime.threads import ort_threads

__all__ = ["PROVIDERS", "NcnnRequest", "ncnn_requests", "settings_of"]

PROVIDERS = ("cpu", "cpu-fp16", "cpu-bf16", "vulkan", "vulkan-fp16")
HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
BRAIN = ("use_bf16_packed", "use_bf16_storage")
OURS = ("num_threads", "use_vulkan_compute")  # settings that arguments of their own make


@dataclass(frozen=True, slots=True)
class NcnnRequest:
    """One way to run.

    Attributes:
        name: one of :data:`PROVIDERS`.
        options: fields of ``ncnn.Option`` that go before those set here.
    """

    name: str
    options: dict[str, bool | int] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU runs it."""
        return self.name.startswith("vulkan")


def ncnn_requests(
    providers: str | Sequence[str] | None, options: Mapping[str, Mapping[str, Any]] | None
) -> list[NcnnRequest]:
    """Return the ways to try, in order.

    Args:
        providers: one of :data:`PROVIDERS` means exactly that one, a sequence is a fallback list; None: ``cpu``.
        options: provider -> fields of ``ncnn.Option``.

    Raises:
        InputError: a name is unknown or stands twice, or options belong to a provider that was not asked for.
    """
    require(
        providers is None or isinstance(providers, str | Sequence),
        f"providers must be a name such as cpu, or a fallback list of names, got {providers!r}",
    )
    asked = ("cpu",) if providers is None else (providers,) if isinstance(providers, str) else tuple(providers)
    require(len(asked) > 0, "providers must name at least one, got none; use providers='cpu'")
    for name in asked:
        require(name in PROVIDERS, f"unknown provider {name!r} of ncnn; expected one of {', '.join(PROVIDERS)}")
    require(len(set(asked)) == len(asked), f"providers name one twice: {providers}; name each once")
    stray = sorted(set(options or {}) - set(asked))
    require(not stray, f"provider_options hold {', '.join(stray)}, which providers do not ask for; add it there")
    return [NcnnRequest(name, dict((options or {}).get(name, {}))) for name in asked]


def settings_of(request: NcnnRequest, threads: int | None, known: Mapping[str, Any]) -> dict[str, bool | int]:
    """Return every field of ``ncnn.Option`` to set.

    Args:
        request: the way to run.
        threads: threads inside one layer; None takes one per physical core that this process may use.
        known: the fields this ncnn has, with their values.

    Raises:
        InputError: an option that ncnn does not have, or of another type than it takes.
    """
    for name, value in request.options.items():
        kind = type(known.get(name))
        if kind not in (bool, int) or name in OURS:
            close = difflib.get_close_matches(name, [n for n in known if n not in OURS], n=1)
            hint = f"did you mean {close[0]}?" if close else "expected fields of ncnn.Option"
            raise InputError(f"unknown option {name!r} of ncnn; {hint}")
        require(type(value) is kind, f"ncnn's option {name} is of type {kind.__name__}, got {value!r}")
    half, brain = request.name.endswith("-fp16"), request.name.endswith("-bf16")
    settings: dict[str, bool | int] = {**dict.fromkeys(HALF, half), **dict.fromkeys(BRAIN, brain)}
    settings["num_threads"] = (ort_threads() or available_cpus()) if threads is None else threads
    settings["use_vulkan_compute"] = request.on_gpu
    return {name: value for name, value in settings.items() if name in known} | request.options
