"""The errors a user can cause, each with the exit code its verb ends with.

    SolovEdgeError              1  the work failed
    |-- InputError              2  bad usage or bad input: file, picture, checkpoint, option (also a ValueError)
    |-- GateError               3  a parity or accuracy gate failed
    `-- MissingDependencyError  4  an optional dependency is not installed; the message holds the line that installs it

A message is one sentence a stranger understands: what was expected, what was got, and the cure.
This module stands below everything else, so that the contract (``spec``, ``manifest``) can raise it;
``solov2_edge.runtime.errors`` is its public face on a device.
"""

__all__ = ["GateError", "InputError", "MissingDependencyError", "SolovEdgeError", "require"]


class SolovEdgeError(Exception):
    """The work could not be done; base of every error this project raises on purpose."""

    exit_code: int = 1


class InputError(SolovEdgeError, ValueError):
    """What the user gave cannot be used: a file, a picture, a checkpoint, a value."""

    exit_code = 2


class GateError(SolovEdgeError):
    """The work was done and its result misses a bound: parity or accuracy."""

    exit_code = 3


class MissingDependencyError(SolovEdgeError):
    """An optional dependency is not installed."""

    exit_code = 4

    def __init__(self, package: str, extra: str, purpose: str, *, line: str | None = None) -> None:
        """Say which package is missing and which extra brings it.

        Args:
            package: import name of the missing package, for example ``"onnxruntime"``.
            extra: extra of solov2-edge that installs it, for example ``"onnx"``.
            purpose: what it is needed for, for example ``"running .onnx artefacts"``.
            line: what installs it where no extra can, in words or as a command; ``extra`` is then empty.
        """
        self.package = package
        self.extra = extra
        line = f"pip install 'solov2-edge[{extra}]'" if line is None else line
        super().__init__(f"{purpose} needs {package}, which is not installed: {line}")


def require(condition: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``condition`` holds; used by dataclass validation."""
    if not condition:
        raise InputError(message)
