"""A Session that replays arrays: for tests, for applications without an artefact at hand, and for decoding alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import require
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.contract import check_batch, check_outputs
from solov2_edge.runtime.session import Outputs

__all__ = ["FakeSession"]


class FakeSession:
    """Gives prepared outputs instead of running a network; checks its input like a real session.

    Attributes:
        manifest: what the pretended artefact takes and gives.
        engine: ``"fake"``.
        providers: ``("fake",)``.
    """

    def __init__(
        self, manifest: Manifest, outputs: Outputs | Sequence[Outputs] | Callable[[NDArray[Any]], Outputs]
    ) -> None:
        """Prepare what to give.

        Args:
            manifest: input contract and spec; the outputs must have its shapes: RawOutputs, or DecodedOutputs where it
                says that the graph decodes.
            outputs: given on every run; or a sequence given in turn, starting over at its end; or a function of the
                batch.

        Raises:
            InputError: outputs do not have the manifest's shapes, or the sequence is empty.
        """
        self.manifest = manifest
        self.engine = "fake"
        self.providers: tuple[str, ...] = ("fake",)
        self._runs = 0
        self._closed = False
        self._function = outputs if callable(outputs) else None
        self._replay: tuple[Outputs, ...] = ()
        if not callable(outputs):
            self._replay = (outputs,) if isinstance(outputs, Outputs) else tuple(outputs)
            require(bool(self._replay), "a fake session needs at least one frame's outputs to give, got none")
        for raw in self._replay:
            check_outputs(raw, manifest)

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Give the next prepared outputs.

        Args:
            batch: as the manifest's input contract says.

        Raises:
            InputError: shape or dtype differ from the contract, or the session is closed.
        """
        require(not self._closed, "this session is closed; make another")
        check_batch(batch, self.manifest.input)
        if self._function is not None:
            raw = self._function(batch)
            check_outputs(raw, self.manifest)
        else:
            raw = self._replay[self._runs % len(self._replay)]
        self._runs += 1
        return raw

    def close(self) -> None:
        """Forget the outputs; running afterwards is an error."""
        self._closed = True

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
