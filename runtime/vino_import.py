"""OpenVINO, imported without the message that its package sends to its makers whenever it is imported.

The package imports ``openvino_telemetry``, which reports every import over the network unless the user has forbidden
it, and does without where that is not installed. Nothing here may speak to anybody behind the user's back.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from solov2_edge.errors import MissingDependencyError

__all__ = ["ENGINE", "frontend", "openvino"]

TELEMETRY = "openvino_telemetry"


def _import(name: str) -> Any:
    """Import a module while the telemetry package looks as if it were not installed; one loaded before stays."""
    if TELEMETRY in sys.modules:
        return importlib.import_module(name)
    modules: dict[str, Any] = sys.modules
    modules[TELEMETRY] = None  # how Python marks what cannot be imported
    try:
        return importlib.import_module(name)
    finally:
        del modules[TELEMETRY]


try:
    openvino: Any = _import("openvino")
    frontend: Any = _import("openvino.frontend.onnx")
except ImportError as error:
    raise MissingDependencyError("openvino", "openvino", "running .onnx artefacts in OpenVINO") from error

ENGINE = f"openvino {openvino.__version__.partition('-')[0]}"
