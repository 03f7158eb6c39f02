"""Segmenter: frame in, instances out, over any Session."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Iterable
from dataclasses import asdict
from time import perf_counter
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.manifest import Manifest
from solov2_edge.runtime.contract import undecoded
from solov2_edge.runtime.decode import DecodeOptions, decode
from solov2_edge.runtime.decoded import agreed_options, baked_options, decoded_instances
from solov2_edge.runtime.frame_stream import DEPTH, FrameResult, frame_pipeline
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions
from solov2_edge.runtime.panoptic_merge import decode_panoptic
from solov2_edge.runtime.pictures import as_frame
from solov2_edge.runtime.pipeline import Pipeline
from solov2_edge.runtime.preprocess import Geometry, fixed_geometry, preprocess
from solov2_edge.runtime.session import DecodedOutputs, Outputs, RawOutputs, Session
from solov2_edge.runtime.threads import one_blas_thread
from solov2_edge.spec import ModelSpec

__all__ = ["Segmenter"]


class Segmenter:
    """Segments frames with one open artefact; a context manager.

    Threads may share one: the network runs one frame at a time, whoever asks, while other frames are prepared and
    decoded. To run networks at the same time, open one per thread. Processes: open it in the process that uses it,
    after a fork; an engine's own threads do not survive one, so a segmenter opened before must not be used in the
    child. It cannot be pickled: give a spawned process the artefact's path. Close it when no thread uses it any more;
    a call after that is refused.

    Attributes:
        options: how raw outputs become instances.
        timings: milliseconds of the last call that ended, in whatever thread: ``preprocess``, ``network`` and
            ``decode``; all 0 before the first call, and ``decode`` is 0 after :meth:`raw`. A stream's frames carry
            their own.
    """

    def __init__(self, session: Session, options: DecodeOptions | None = None) -> None:
        """Take over an open session.

        Args:
            session: any engine's; closed together with this object.
            options: default: the reference's thresholds; of a graph that decodes, its own.

        Raises:
            InputError: options that contradict what a graph decodes with.
        """
        self._session = session
        self._turn = threading.Lock()  # to run the network
        self._streams: weakref.WeakSet[Pipeline] = weakref.WeakSet()
        baked = session.manifest.decode
        if baked is None:
            self.options = DecodeOptions() if options is None else options
        else:
            self.options = baked_options(baked) if options is None else agreed_options(baked, asdict(options))
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
        instances, self.timings = self.timed(frame)
        return instances

    def timed(self, frame: NDArray[Any]) -> tuple[Instances, dict[str, float]]:
        """Segment one frame and return what it took too, whatever other threads do meanwhile.

        Returns:
            As for calling, and this frame's own ``preprocess``, ``network`` and ``decode`` milliseconds.

        Raises:
            InputError: as for calling.
        """
        raw, geometry, timings = self._network(frame)
        start = perf_counter()
        instances = self._decode(raw, geometry)
        return instances, {**timings, "decode": (perf_counter() - start) * 1e3}

    def raw(self, frame: NDArray[Any]) -> RawOutputs:
        """Run the network on one frame and return what it says, undecoded.

        Raises:
            InputError: as for calling, or the artefact decodes inside its graph.
        """
        outputs, _, self.timings = self._network(frame)
        return undecoded(outputs)

    def panoptic(self, frame: NDArray[Any], options: PanopticOptions | None = None) -> Panoptic:
        """Segment one frame into things and stuff, of which every pixel has one or none.

        Args:
            frame: as for calling.
            options: how instances and stuff are merged; default: as Panoptic-FPN does.

        Returns:
            The map in pixels of the frame, its segments, and the instances it was merged from.

        Raises:
            InputError: as for calling, or the network has no stuff.
        """
        outputs, geometry, timings = self._network(frame)
        start = perf_counter()
        with one_blas_thread():
            raw, merging = undecoded(outputs), options or PanopticOptions()
            found = decode_panoptic(raw, geometry, self.spec, self.options, merging)
        self.timings = {**timings, "decode": (perf_counter() - start) * 1e3}
        return found

    def stream(self, frames: Iterable[NDArray[Any]], *, depth: int = DEPTH) -> Generator[FrameResult, None, None]:
        """Segment a source's frames in order, capturing, running the network and decoding at the same time.

        Results are those of calling the segmenter frame by frame. Frames are drawn ahead in a thread of its own, at
        most ``depth`` of them beyond what was handed over, and only once the first result is asked for. An error of
        the source, of a frame or of the network is raised in its place, after the frames before it. The threads are
        gone when the source ends, an error was raised, the stream is closed or dropped (``break`` out of the loop that
        made it), or the segmenter is closed; a source that is stuck in a frame then is not waited for longer than two
        seconds. The source itself is not closed.

        Args:
            frames: as for calling; any iterable, endless or slow ones too. A frame must stay as it is until it is
                handed over, so a source that reads into one buffer has to copy.
            depth: frames under way at most. Memory and latency grow with it: a frame's result comes about ``depth``
                times the slowest step after the frame. 1 does one thing at a time.

        Raises:
            InputError: frames cannot be iterated over, or the depth is not a whole number of at least 1; while
                iterating, as for calling.
        """
        pipeline = frame_pipeline(frames, depth, self._prepare, self._run, self._decode)
        self._streams.add(pipeline)
        return pipeline.results()

    def _network(self, frame: NDArray[Any]) -> tuple[Outputs, Geometry, dict[str, float]]:
        start = perf_counter()
        batch, geometry = self._prepare(frame)
        ready = perf_counter()
        raw, network = self._run(batch)
        return raw, geometry, {"preprocess": (ready - start) * 1e3, "network": network, "decode": 0.0}

    def _prepare(self, frame: NDArray[Any]) -> tuple[NDArray[Any], Geometry]:
        frame = as_frame(frame)
        contract = self.manifest.input
        geometry = fixed_geometry(frame.shape[0], frame.shape[1], contract.height, contract.width)
        return preprocess(frame, geometry, contract.kind, self.spec), geometry

    def _run(self, batch: NDArray[Any]) -> tuple[Outputs, float]:
        """Return the outputs and the milliseconds the network took, waiting for its turn left out."""
        with self._turn:
            start = perf_counter()
            raw = self._session.run(batch)
            return raw, (perf_counter() - start) * 1e3

    def _decode(self, raw: Outputs, geometry: Geometry) -> Instances:
        with one_blas_thread():
            if isinstance(raw, DecodedOutputs):
                return decoded_instances(raw, geometry, self.spec, self.options)
            return decode(raw, geometry, self.spec, self.options)

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
        """End all streams and close the session; calling afterwards is an error."""
        for stream in list(self._streams):
            stream.stop(InputError("the segmenter was closed while its stream was read; close it after the stream"))
        with self._turn:
            self._session.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
