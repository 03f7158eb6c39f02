"""Execution providers of ONNX Runtime by short name: what was asked for, what there is, what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from solov2_edge.errors import InputError, require

__all__ = ["DEFAULT_PROVIDERS", "provider_name", "provider_requests"]

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
DEFAULT_PROVIDERS = ("cpu",)


def provider_name(name: str) -> str:
    """Return ONNX Runtime's name of a provider.

    Args:
        name: ``cpu``, ``cuda``, ``tensorrt``, ``coreml`` in any case, or a full name such as
            ``OpenVINOExecutionProvider``.

    Raises:
        InputError: neither.
    """
    require(isinstance(name, str), f"a provider is a name such as cpu or cuda, got {name!r}")
    if name.endswith("ExecutionProvider"):
        return name
    if name.lower() not in SHORT_NAMES:
        raise InputError(
            f"unknown provider {name!r}; expected {', '.join(SHORT_NAMES)}, or a full name ending in ExecutionProvider"
        )
    return SHORT_NAMES[name.lower()]


def provider_requests(
    providers: str | Sequence[str] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    available: Sequence[str],
) -> list[list[tuple[str, dict[str, Any]]]]:
    """Return the provider lists to try, in order; each begins with the one that must really run.

    Args:
        providers: one name means exactly that one; a sequence is a fallback list, first choice first.
        options: provider name -> that provider's own options.
        available: what this installation of ONNX Runtime was built with.

    Returns:
        Lists of (full name, options). A list holds the later choices too, so that operators the first cannot run go
        to the next one asked for.

    Raises:
        InputError: nothing asked for is available, a name is unknown or stands twice, or options belong to a
            provider that was not asked for.
    """
    asked = [provider_name(name) for name in _as_names(providers)]
    require(len(asked) > 0, "providers must name at least one, got none; use providers='cpu'")
    require(len(set(asked)) == len(asked), f"providers name one twice: {', '.join(asked)}; name each once")
    settings = {provider_name(name): dict(values) for name, values in (options or {}).items()}
    stray = sorted(set(settings) - set(asked))
    require(not stray, f"provider_options hold {', '.join(stray)}, which providers do not ask for; add it there")
    usable = [(name, settings.get(name, {})) for name in asked if name in available]
    require(
        bool(usable),
        f"{' and '.join(asked)} not available in this ONNX Runtime, which has {', '.join(available)}; "
        "install the build for your device, or give a fallback list such as providers=('cuda', 'cpu')",
    )
    return [usable[first:] for first in range(len(usable))]


def _as_names(providers: str | Sequence[str] | None) -> Sequence[str]:
    if providers is None:
        return DEFAULT_PROVIDERS
    require(
        isinstance(providers, str | Sequence),
        f"providers must be a name such as cpu, or a fallback list of names, got {providers!r}",
    )
    return (providers,) if isinstance(providers, str) else tuple(providers)
