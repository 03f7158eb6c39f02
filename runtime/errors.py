"""The public face of the project's errors on a device; the tree is drawn in ``solov2_edge.errors``."""

from solov2_edge.errors import GateError, InputError, MissingDependencyError, SolovEdgeError

__all__ = ["GateError", "InputError", "MissingDependencyError", "SolovEdgeError"]
