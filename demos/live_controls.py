"""What can be changed while a live view runs, from a key, a web page or another thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from solov2_edge.demos.image import SHOWN_SCORE
from solov2_edge.errors import InputError, require

__all__ = ["STEP", "Controls", "Settings"]

STEP = 0.05  # of the score threshold, per key press
ALPHA = 0.38  # opacity of a mask's tint, as on the overlays of pictures


@dataclass(frozen=True, slots=True)
class Settings:
    """One state of the controls; replaced as a whole, so that a frame is shown with one of them and never with two.

    Attributes:
        score_threshold: least score of an instance that is shown, in [0, 1].
        classes: names of the classes that are shown; None is all of them.
        paused: the picture stands still; a live source goes on, and its frames are dropped.
        recording: the overlays are being written to a video.
        alpha: opacity of the masks' tint, 0 (outline only) to 1 (solid).
        labels: draw a tag with class name and score where one fits.
    """

    score_threshold: float = SHOWN_SCORE
    classes: frozenset[str] | None = None
    paused: bool = False
    recording: bool = False
    alpha: float = ALPHA
    labels: bool = True

    def __post_init__(self) -> None:
        for name in ("score_threshold", "alpha"):
            value = getattr(self, name)
            require(
                isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1,
                f"{name} must lie between 0 and 1, got {value!r}",
            )
        for name in ("paused", "recording", "labels"):
            flag = getattr(self, name)
            require(isinstance(flag, bool), f"{name} must be True or False, got {flag!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data, the classes sorted."""
        return {**asdict(self), "classes": None if self.classes is None else sorted(self.classes)}


class Controls:
    """Settings that any thread may read and change, and the wish to end.

    Attributes:
        class_names: of the model, in its order.
    """

    def __init__(self, class_names: Sequence[str], settings: Settings | None = None) -> None:
        """Start with ``settings``, or everything as usual.

        Raises:
            InputError: a class the model does not know.
        """
        self.class_names = tuple(class_names)
        self._changed = threading.Condition()  # re-entrant
        self._stopped = False
        self._settings = self._checked(settings or Settings())

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return self._settings

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stopped

    def change(self, **changes: Any) -> Settings:
        """Replace fields of the settings, all of them or, where one is refused, none.

        Args:
            changes: fields of Settings; ``classes`` may be any collection of names.

        Returns:
            The settings as they are now.

        Raises:
            InputError: no such field, a value out of range, or a class the model does not know.
        """
        known = [field.name for field in fields(Settings)]
        for name in changes:
            require(name in known, f"{name!r} is not a setting; expected one of {', '.join(known)}")
        if changes.get("classes") is not None:
            changes["classes"] = frozenset(changes["classes"])
        with self._changed:
            self._settings = self._checked(replace(self._settings, **changes))
            self._changed.notify_all()
            return self._settings

    def toggle(self, name: str) -> Settings:
        """Turn a setting that is True or False into the other; see :meth:`change`."""
        with self._changed:
            return self.change(**{name: not getattr(self._settings, name)})

    def move_threshold(self, steps: int) -> Settings:
        """Raise (or lower) the score threshold by so many steps of 0.05, within 0 and 1."""
        with self._changed:
            value = round(self._settings.score_threshold / STEP) * STEP + steps * STEP
            return self.change(score_threshold=round(min(1.0, max(0.0, value)), 2))

    def next_class(self) -> Settings:
        """Show one class alone, the next one each time, and after the last all of them again."""
        with self._changed:
            shown = self._settings.classes
            first = min((self.class_names.index(name) for name in shown), default=-1) if shown is not None else -1
            following = first + 1
            return self.change(classes=[self.class_names[following]] if following < len(self.class_names) else None)

    def stop(self) -> None:
        """Ask for the end; the loop ends after the frame at hand."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, seen: Settings, seconds: float) -> None:
        """Wait until the settings are no longer ``seen``, the end was asked for, or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._settings is not seen, seconds)

    def _checked(self, settings: Settings) -> Settings:
        for name in sorted(settings.classes or ()):
            if name not in self.class_names:
                import difflib

                close = difflib.get_close_matches(name, self.class_names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(self.class_names)}"
                raise InputError(f"the model has no class {name!r}; {hint}")
        return settings
