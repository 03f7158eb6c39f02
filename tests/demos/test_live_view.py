from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos import live_view
from solov2_edge.demos.draw import draw_instances
from solov2_edge.demos.live_controls import Settings
from solov2_edge.demos.live_view import Shown, close_all


def test_the_overlay_is_drawn_once_for_all_and_cannot_be_changed(
    show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = draw_instances

    def counting(*arguments: Any, **options: Any) -> NDArray[np.uint8]:
        drawn.append(1)
        return draw(*arguments, **options)

    monkeypatch.setattr(live_view, "draw_instances", counting)
    shown = show(0)
    assert not drawn
    overlays: list[NDArray[np.uint8]] = []
    threads = [threading.Thread(target=lambda: overlays.append(shown.overlay)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 1
    assert all(overlay is overlays[0] for overlay in overlays)
    assert (shown.frame.image == 128).all()
    with pytest.raises(ValueError, match="read-only"):
        shown.overlay[0] = 0


def test_settings_and_tracks_decide_how_it_looks(show: Callable[..., Shown]) -> None:
    plain, faint = show(0), show(0, settings=Settings(alpha=0.1))
    other = show(0)
    other.tracks[:] = 5
    inside = (slice(14, 26), slice(14, 22))
    grey = plain.frame.image[inside].astype(int)
    change = [np.abs(shown.overlay[inside].astype(int) - grey).mean() for shown in (plain, faint)]
    assert change[0] > 2 * change[1] > 0
    assert (other.overlay[inside] != plain.overlay[inside]).any()
    np.testing.assert_array_equal(show(0, []).overlay, plain.frame.image)


def test_everything_is_closed_and_the_first_error_told() -> None:
    closed: list[str] = []

    class Thing:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name, self.error = name, error

        def close(self) -> None:
            closed.append(self.name)
            if self.error is not None:
                raise self.error

    with pytest.raises(OSError, match="first"):
        close_all([Thing("a"), Thing("b", OSError("first")), Thing("c", ValueError("second")), Thing("d")])
    assert closed == ["a", "b", "c", "d"]
