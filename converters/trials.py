"""Running finished files on held-out pictures, in the runtime they are for: outputs before NMS, mask AP, times."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.held_out import HeldOut
from solov2_edge.converters.sensitivity import signal_to_noise
from solov2_edge.runtime import Segmenter, load
from solov2_edge.runtime.evaluate import Evaluation, evaluate
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.session import RawOutputs

__all__ = ["COMPARED", "Trials", "interleaved"]

COMPARED = 16  # pictures whose outputs before NMS are compared: noise is even, and outputs are megabytes
ROUNDS = 15
# Threads of an engine go on spinning for work when a run is over: without a pause the next engine's run has to share.
PAUSE_SECONDS = 0.05


class Trials:
    """Measures files against the float32 one.

    Attributes:
        engine: what runs them, for example ``"onnxruntime 1.32.0"``.
        compared: how many pictures' outputs are compared, spread evenly over all.
        exact: float32's evaluation, or None without annotations.
    """

    def __init__(
        self,
        suffix: str,
        floating: bytes,
        held_out: HeldOut,
        *,
        threads: int | None = None,
        max_detections: int = 100,
    ) -> None:
        """Run float32.

        Args:
            suffix: of the files, from which the engine follows.
            floating: the float32 file.
            held_out: what is measured on.
            threads: of the engine; default: its choice.
            max_detections: best detections of a picture and category that count.
        """
        self._suffix, self._held_out, self._threads, self._most = suffix, held_out, threads, max_detections
        pictures = held_out.pictures
        self.compared = min(COMPARED, len(pictures))
        chosen = [pictures[index * len(pictures) // self.compared] for index in range(self.compared)]
        self._frames = [read_picture(path) for path in chosen]
        with self._opened(floating) as segment:
            self.engine = segment.engine
            self._outputs = self._raw(segment)
            self.exact = None if held_out.annotations is None else self._evaluate(segment)

    def noise(self, data: bytes) -> dict[str, float]:
        """Return dB of signal to noise by output; see :func:`~solov2_edge.converters.sensitivity.signal_to_noise`."""
        with self._opened(data) as segment:
            return signal_to_noise(self._outputs, self._raw(segment))

    def evaluation(self, data: bytes) -> Evaluation:
        """Return the mask AP of a file, by the runtime's own decoding."""
        with self._opened(data) as segment:
            return self._evaluate(segment)

    def figures(self, data: bytes) -> dict[str, float]:
        """Return :meth:`noise` and, with annotations, ``"ap"``."""
        found = self.noise(data)
        return found if self.exact is None else {**found, "ap": self.evaluation(data).ap}

    def milliseconds(self, files: Mapping[str, bytes]) -> dict[str, float]:
        """Return the median milliseconds of each file's network on this machine, run in turn on a held-out picture."""
        return interleaved(files, self._suffix, self._frames[0], self._threads)

    def _opened(self, data: bytes) -> AbstractContextManager[Segmenter]:
        return opened(data, self._suffix, self._threads, max_instances=self._most)

    def _raw(self, segment: Segmenter) -> list[RawOutputs]:
        return [segment.raw(frame) for frame in self._frames]

    def _evaluate(self, segment: Segmenter) -> Evaluation:
        assert self._held_out.annotations is not None  # asked for only where there are some
        return evaluate(
            segment,
            self._held_out.annotations,
            self._held_out.images,
            max_detections=self._most,
            limit=len(self._held_out.pictures),
        )


def interleaved(
    files: Mapping[str, bytes], suffix: str, frame: NDArray[np.uint8], threads: int | None = None
) -> dict[str, float]:
    """Return the median milliseconds of each file's network, each run once per round, in turn.

    Args:
        files: name -> file.
        suffix: of the files.
        frame: BGR uint8 (H, W, 3).
        threads: of the engine; default: its choice.
    """
    taken: dict[str, list[float]] = {name: [] for name in files}
    with ExitStack() as stack:
        segments = {name: stack.enter_context(opened(data, suffix, threads)) for name, data in files.items()}
        for number in range(1 + ROUNDS):
            for name, segment in segments.items():
                time.sleep(PAUSE_SECONDS)
                segment.raw(frame)
                if number > 0:  # the first run of each makes its memory
                    taken[name].append(segment.timings["network"])
    return {name: float(np.median(times)) for name, times in taken.items()}


@contextmanager
def opened(data: bytes, suffix: str, threads: int | None, **options: Any) -> Iterator[Segmenter]:
    """Open a file that is not to stay, as the runtime opens any."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trial{suffix}"
        path.write_bytes(data)
        with load(path, threads=threads, **options) as segment:
            yield segment
