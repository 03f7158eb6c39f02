"""Pictures as a source: a file, a folder, or a pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

from solov2_edge.errors import InputError, require
from solov2_edge.runtime.pictures import PICTURE_SUFFIXES, list_pictures, read_picture
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus

__all__ = ["PictureSource", "matching_pictures"]


class PictureSource(Source):
    """Pictures in order, read when they are asked for; one that cannot be read is skipped and counted."""

    def __init__(self, text: str, paths: Sequence[Path]) -> None:
        """Take pictures.

        Args:
            text: what the user wrote.
            paths: at least one.
        """
        require(bool(paths), f"{text} holds no picture; expected files ending in {', '.join(PICTURE_SUFFIXES)}")
        self.description = text if len(paths) == 1 else f"{text} ({len(paths)} pictures)"
        self.mode = Mode.IMAGE
        self.fps: float | None = None
        self._text = text
        self._paths = tuple(paths)
        self._status = SourceStatus()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the pictures.

        Raises:
            InputError: not one of them can be read; told of the first.
        """
        failures: list[InputError] = []
        for index, path in enumerate(self._paths):
            if self._status.state != "open":
                return
            try:
                image = read_picture(path)
            except InputError as error:
                failures.append(error)
                self._status = SourceStatus(corrupt=len(failures), message=str(error))
                continue
            yield Frame(image, index, perf_counter(), str(path))
        if self._status.state == "open":
            self._status = SourceStatus("ended", self._status.corrupt, message=self._status.message)
        if len(failures) == len(self._paths):
            many = f"none of the {len(failures)} pictures of {self._text} can be read; the first: "
            raise InputError(f"{many if len(failures) > 1 else ''}{failures[0]}")

    def status(self) -> SourceStatus:
        """Return how it is doing."""
        return self._status

    def close(self) -> None:
        """End the iteration before the next picture."""
        if self._status.state != "ended":
            self._status = SourceStatus("closed", self._status.corrupt, message=self._status.message)


def matching_pictures(text: str) -> list[Path]:
    """Return the pictures of a file, a folder or a pattern such as ``shots/**/*.png``, sorted by name.

    Raises:
        InputError: nothing is there, or no picture.
    """
    if Path(text).exists() or not glob.has_magic(text):
        return list_pictures(text)
    found = [Path(name) for name in glob.glob(text, recursive=True)]
    pictures = sorted(path for path in found if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    require(
        bool(pictures),
        f"{text} matches no picture; expected files ending in {', '.join(PICTURE_SUFFIXES)}, "
        "and the pattern in quotes where a shell would expand it",
    )
    return pictures
