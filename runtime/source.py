"""What frames come from: the frame, the state of its source, and the protocol every kind of source keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import require

__all__ = ["CLOSE_PATIENCE_SECONDS", "Frame", "Mode", "Source", "SourceStatus"]

# What closing waits for a read that nobody can interrupt; it ends by its own time-out later.
CLOSE_PATIENCE_SECONDS = 2.0


class Mode(Enum):
    """How the frames of a source are gone through.

    Attributes:
        IMAGE: one by one, nothing at the same time: pictures.
        VIDEO: every frame, in order, several under way at once: files.
        LIVE: the newest frame; those that came while the model was busy are dropped and counted: cameras.
    """

    IMAGE = "image"
    VIDEO = "video"
    LIVE = "live"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        image: BGR uint8 (H, W, 3); nobody else writes to it.
        index: its place in the source, from 0; frames that were dropped or could not be decoded count.
        captured: ``time.perf_counter()`` seconds when it was complete.
        name: the file, of a picture.
        seconds: its place in time, from the source's first frame: of playing for a video file, of capturing for a
            camera; None for pictures.
    """

    image: NDArray[np.uint8]
    index: int
    captured: float
    name: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        good = self.image.dtype == np.uint8 and self.image.ndim == 3 and self.image.shape[2] == 3 and self.image.size
        require(bool(good), f"a frame must be BGR uint8 (H, W, 3), got {self.image.dtype} {self.image.shape}")
        require(self.index >= 0, f"a frame's place in its source is counted from 0, got {self.index}")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is doing; a snapshot.

    Attributes:
        state: ``open``: frames come; ``reopening``: the camera vanished and is looked for; ``ended``: there are no
            more; ``closed``: by its reader.
        corrupt: frames skipped because they could not be decoded.
        reopened: how often it came back after it had vanished.
        message: what went wrong last, in words; empty if nothing did.
    """

    state: Literal["open", "reopening", "ended", "closed"] = "open"
    corrupt: int = 0
    reopened: int = 0
    message: str = ""


class Source(Protocol):
    """Gives frames, once; a context manager.

    One thread iterates; any may ask for the status or close.

    Attributes:
        description: what it is in words, without a password.
        mode: how it is gone through unless told otherwise; LIVE where frames come at a pace of their own.
        fps: frames per second: of playing for a file, of capturing for a camera; None where it is not known, and for
            pictures.
    """

    description: str
    mode: Mode
    fps: float | None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the end; a camera that vanished is waited for, a frame that is corrupt left out.

        Raises:
            InputError: it does not give a single frame.
        """
        ...

    def status(self) -> SourceStatus:
        """Return how it is doing; also after it was closed."""
        ...

    def close(self) -> None:
        """Let go of the device, connection or file and end the iteration; may be called in any state.

        Whoever waits for a frame in another thread is woken where the system allows it, and else waited for no longer
        than two seconds: what is stuck in a driver lets go of itself when its own time-out is over.
        """
        ...

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
