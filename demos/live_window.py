"""The live view in a window, with keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from solov2_edge.demos.highgui import Gui
from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_snapshot import save_shown
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_status import draw_status, draw_table, status_words
from solov2_edge.demos.live_view import Shown

__all__ = ["HELP", "Window"]

HELP = (
    ("space", "pause and go on"),
    ("+ -", "score threshold up and down"),
    ("c", "next class, then all again"),
    ("l", "labels on and off"),
    ("s", "save this frame"),
    ("r", "record, and stop recording"),
    ("h", "this list"),
    ("q", "quit (also Esc)"),
)
SAID_SECONDS = 3.0  # a message stays
WAITING = (360, 640)  # (H, W) of the picture shown before there is one
ESCAPE = 27


class Window:
    """Shows every frame with its figures, and turns keys into changes of the controls."""

    def __init__(self, gui: Gui, controls: Controls, folder: Path, name: str) -> None:
        """Take a window system.

        Args:
            gui: where to show; closed in the end.
            controls: what the keys change.
            folder: where saved frames go.
            name: how their names begin.
        """
        self._gui = gui
        self._controls = controls
        self._folder = folder
        self._name = name
        self._shown: Shown | None = None
        self._helps = False
        self._said = ""
        self._until = 0.0
        self._drawn: tuple[object, ...] = ()
        self._keys: dict[str, Callable[[], object]] = {
            " ": lambda: controls.toggle("paused"),
            "+": lambda: controls.move_threshold(1),
            "=": lambda: controls.move_threshold(1),
            "-": lambda: controls.move_threshold(-1),
            "_": lambda: controls.move_threshold(-1),
            "c": controls.next_class,
            "l": lambda: controls.toggle("labels"),
            "s": self._save,
            "r": lambda: controls.toggle("recording"),
            "h": self._help,
            "?": self._help,
            "q": controls.stop,
            chr(ESCAPE): controls.stop,
        }

    def say(self, text: str) -> None:
        """Show a message instead of the figures for a while."""
        self._said, self._until = text, monotonic() + SAID_SECONDS

    def show(self, shown: Shown) -> None:
        """Show a frame and look after the keys."""
        self._shown = shown
        self._draw(shown.statistics)
        self._look()

    def tick(self, statistics: Statistics) -> None:
        """Look after the keys, and show that a camera has vanished."""
        said = self._said if monotonic() < self._until else ""
        now = (statistics.state, statistics.message, self._controls.settings, self._helps, said)
        if now != self._drawn:
            self._drawn = now
            self._draw(statistics)
        self._look()

    def close(self) -> None:
        """Close the window."""
        self._gui.close()

    def _draw(self, statistics: Statistics) -> None:
        picture: NDArray[np.uint8]
        picture = np.full((*WAITING, 3), 40, np.uint8) if self._shown is None else self._shown.overlay
        if self._helps:
            picture = draw_table(picture, HELP)
        words = status_words(statistics, self._controls.settings)
        if self._shown is None:
            words = "waiting for the first frame"
        if monotonic() < self._until:
            words = self._said
        alarm = f"{statistics.state}: {statistics.message}" if statistics.state == "reopening" else ""
        self._gui.show(draw_status(picture, words, alarm))

    def _look(self) -> None:
        code = self._gui.key()
        action = self._keys.get(chr(code).lower()) if code >= 0 else None
        if action is not None:
            action()
        if not self._gui.is_open():
            self._controls.stop()

    def _help(self) -> None:
        self._helps = not self._helps

    def _save(self) -> None:
        if self._shown is not None:
            try:
                picture, *_ = save_shown(self._shown, self._folder, self._name)
            except OSError as error:
                self.say(f"not saved: {error}")
            else:
                self.say(f"saved {picture.name}, its LabelMe document and its overlay")
