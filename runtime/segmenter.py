"""Segmenter: frame in, instances out, over any Session."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.manifest import Manifest
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import as_frame
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess
from solov2_edge.runtime.session import RawOutputs, Session
from solov2_edge.spec import ModelSpec

__all__ = ["Segmenter"]


class Segmenter:
    """Segments frames with one open artefact; a context manager.

    Attributes:
        options: how raw outputs become instances.
        timings: milliseconds of the last call: ``preprocess``, ``network`` and ``decode``; all 0 before the first
            call, and ``decode`` is 0 after :meth:`raw`.
    """

    def __init__(self, session: Session, options: DecodeOptions | None = None) -> None:
        """Take over an open session.

        Args:
            session: any engine's; closed together with this object.
            options: default: the reference's thresholds.
        """
        self._session = session
        self.options = DecodeOptions() if options is None else options
        self.timings: dict[str, float] = {"preprocess": 0.0, "network": 0.0, "decode": 0.0}

    def __call__(self, frame: NDArray[Any]) -> Instances:
        """Segment one frame.

        Args:
            frame: uint8 or uint16, of any size: (H, W, 3) BGR, grey or BGRA; see
                :func:`~solov2_edge.runtime.pictures.as_frame`.

        Returns:
            Instances in pixels of the frame; none is a normal result.

        Raises:
            InputError: not such a frame, or the segmenter is closed.
        """
        raw, geometry = self._network(frame)
        start = perf_counter()
        instances = decode(raw, geometry, self.spec, self.options)
        self.timings = {**self.timings, "decode": (perf_counter() - start) * 1e3}
        return instances

    def raw(self, frame: NDArray[Any]) -> RawOutputs:
        """Run the network on one frame and return what it says, undecoded."""
        return self._network(frame)[0]

    def _network(self, frame: NDArray[Any]) -> tuple[RawOutputs, Geometry]:
        start = perf_counter()
        frame = as_frame(frame)
        contract = self.manifest.input
        geometry = fixed_geometry(frame.shape[0], frame.shape[1], contract.height, contract.width)
        batch = preprocess(frame, geometry, contract.kind, self.spec)
        ready = perf_counter()
        raw = self._session.run(batch)
        done = perf_counter()
        self.timings = {"preprocess": (ready - start) * 1e3, "network": (done - ready) * 1e3, "decode": 0.0}
        return raw, geometry

    @property
    def manifest(self) -> Manifest:
        """What the artefact takes and gives, and where it came from."""
        return self._session.manifest

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return self._session.manifest.spec

    @property
    def engine(self) -> str:
        """Name and version of the engine."""
        return self._session.engine

    @property
    def providers(self) -> tuple[str, ...]:
        """What really runs the graph, first choice first."""
        return self._session.providers

    def close(self) -> None:
        """Close the session; calling afterwards is an error."""
        self._session.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
