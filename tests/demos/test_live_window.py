from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos import live_window
from solov2_edge.demos.highgui import require_gui
from solov2_edge.demos.live_controls import Controls, Settings
from solov2_edge.demos.live_journal import Journal
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_status import draw_status, draw_table, status_words
from solov2_edge.demos.live_view import Shown
from solov2_edge.demos.live_window import HELP, Window
from solov2_edge.errors import InputError


class FakeGui:
    """Keeps what it shows, and gives the keys it was told to."""

    def __init__(self) -> None:
        self.pictures: list[NDArray[np.uint8]] = []
        self.keys: list[int] = []
        self.open = True

    def show(self, picture: NDArray[np.uint8]) -> None:
        self.pictures.append(picture)

    def key(self) -> int:
        return self.keys.pop(0) if self.keys else -1

    def is_open(self) -> bool:
        return self.open

    def close(self) -> None:
        self.open = False


@pytest.fixture
def gui() -> FakeGui:
    return FakeGui()


@pytest.fixture
def controls() -> Controls:
    return Controls(("cell", "dust"))


@pytest.fixture
def window(gui: FakeGui, controls: Controls, tmp_path: Path) -> Window:
    return Window(gui, controls, tmp_path, "live-1")


def test_the_overlay_is_shown_with_a_bar_of_figures(window: Window, gui: FakeGui, show: Callable[..., Shown]) -> None:
    shown = show(0)
    window.show(shown)
    picture = gui.pictures[-1]
    np.testing.assert_array_equal(picture[:48], shown.overlay)
    assert picture.shape[0] > 48
    assert len(np.unique(picture[48:])) > 2  # there is something written
    window.close()
    assert not gui.open


def test_keys_change_the_settings(window: Window, gui: FakeGui, controls: Controls, show: Callable[..., Shown]) -> None:
    shown = show(0)

    def press(key: str) -> Settings:
        gui.keys.append(ord(key))
        window.show(shown)
        return controls.settings

    assert press("+").score_threshold == 0.35
    assert press("=").score_threshold == 0.4
    assert press("-").score_threshold == 0.35
    assert press("c").classes == frozenset({"cell"})
    assert press("C").classes == frozenset({"dust"})
    assert press("c").classes is None
    assert press("l").labels is False
    assert press("r").recording is True
    assert press("r").recording is False
    assert press(" ").paused is True
    assert press(" ").paused is False
    before = controls.settings
    assert press("x") is before
    assert not controls.stopped


@pytest.mark.parametrize("code", [ord("q"), ord("Q"), 27])
def test_keys_that_quit(window: Window, gui: FakeGui, controls: Controls, code: int) -> None:
    gui.keys.append(code)
    window.tick(Statistics())
    assert controls.stopped


def test_a_closed_window_quits(window: Window, gui: FakeGui, controls: Controls, show: Callable[..., Shown]) -> None:
    window.show(show(0))
    assert not controls.stopped
    gui.open = False
    window.tick(Statistics())
    assert controls.stopped


def test_saving_a_frame(window: Window, gui: FakeGui, show: Callable[..., Shown], tmp_path: Path) -> None:
    gui.keys += [ord("s"), ord("s")]
    window.tick(Statistics())  # before the first frame there is nothing to save
    assert not list(tmp_path.iterdir())
    window.show(show(12))
    assert (tmp_path / "live-1-000012.overlay.png").exists()


def test_a_frame_that_cannot_be_saved_is_said_and_the_view_goes_on(
    gui: FakeGui, controls: Controls, tmp_path: Path, show: Callable[..., Shown]
) -> None:
    window = Window(gui, controls, tmp_path / "gone", "live-1")
    gui.keys.append(ord("s"))
    window.show(show(0))
    said = gui.pictures[-1]
    window.show(show(1))
    assert (gui.pictures[-1][48:] != said[48:]).any()


def test_the_list_of_keys_comes_and_goes(window: Window, gui: FakeGui, show: Callable[..., Shown]) -> None:
    window.show(show(0, height=480, width=640))
    plain = gui.pictures[-1]
    gui.keys.append(ord("h"))
    window.tick(Statistics())
    window.tick(Statistics())
    assert gui.pictures[-1][:480].mean() < plain[:480].mean() / 2
    gui.keys.append(ord("h"))
    window.tick(Statistics())
    window.tick(Statistics())
    np.testing.assert_array_equal(gui.pictures[-1][:480], plain[:480])
    assert {first for first, _ in HELP} >= {"space", "+ -", "c", "s", "r", "h", "q"}


def test_nothing_is_drawn_again_while_nothing_changes(window: Window, gui: FakeGui, show: Callable[..., Shown]) -> None:
    window.show(show(0))
    window.tick(Statistics())
    drawn = len(gui.pictures)
    for _ in range(5):
        window.tick(Statistics())
    assert len(gui.pictures) == drawn
    window.tick(Statistics(state="reopening", message="the cable is out"))
    assert len(gui.pictures) == drawn + 1
    assert (gui.pictures[-1] != gui.pictures[-2]).any()


def test_there_is_a_window_before_the_first_frame(window: Window, gui: FakeGui) -> None:
    window.tick(Statistics())
    assert gui.pictures[-1].shape[1] == 640


def test_a_message_stays_for_a_while(
    window: Window, gui: FakeGui, show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [10.0]
    monkeypatch.setattr(live_window, "monotonic", lambda: now[0])
    shown = show(0)
    window.show(shown)
    window.say("recorded 7 frames")
    window.tick(Statistics())
    said = gui.pictures[-1]
    assert (said[48:] != gui.pictures[-2][48:]).any()
    now[0] += 10
    window.tick(shown.statistics)
    np.testing.assert_array_equal(gui.pictures[-1], gui.pictures[0])


def test_status_in_words() -> None:
    statistics = Statistics(fps=12.34, latency=45.6, dropped=7)
    assert status_words(statistics, Settings()) == "12.3 fps   latency 46 ms   dropped 7   score >= 0.30   all classes"
    words = status_words(statistics, Settings(classes=frozenset({"b", "a"}), paused=True, recording=True))
    assert words.endswith("a, b   REC   PAUSED")
    assert "no class" in status_words(statistics, Settings(classes=frozenset()))


@pytest.mark.parametrize("size", [(16, 16), (48, 2000), (1080, 1920)])
def test_text_fits_any_picture(size: tuple[int, int], grey: Callable[[int, int], NDArray[np.uint8]]) -> None:
    picture = grey(*size)
    barred = draw_status(picture, "a long line of figures, " * 5, "")
    assert barred.shape[1] == size[1]
    np.testing.assert_array_equal(barred[: size[0]], picture)
    assert draw_table(picture, HELP).shape == picture.shape


def test_the_alarm_is_seen(grey: Callable[[int, int], NDArray[np.uint8]]) -> None:
    plain, alarmed = (draw_status(grey(48, 640), "figures", alarm)[48:] for alarm in ("", "reopening: gone"))
    assert (plain[..., 0] == plain[..., 2]).all()
    assert (alarmed[..., 2].astype(int) - alarmed[..., 0]).max() > 100


def test_a_journal_says_what_happens_to_the_source(show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    journal = Journal(said.append, figures=True)
    for state in ("open", "reopening", "reopening", "open", "ended"):
        journal.tick(Statistics(state=state, message="no answer"))
    assert said == ["the source has gone (no answer); looking for it", "the source is back"]
    journal.show(show(0))
    assert len(said) == 2
    monkeypatch.setattr("solov2_edge.demos.live_journal.monotonic", lambda: 1e9)
    journal.show(show(1))
    assert said[2] == "2 frames, 10.0 per second, latency 12 ms, dropped 4, 1 instances now"
    journal.close()


def test_where_there_is_no_window_a_sentence_says_so() -> None:
    headless, full = (
        "  GUI:                           NONE\n  Media",
        "  GUI:                           QT5\n    QT: YES",
    )
    with pytest.raises(InputError, match="install opencv-python in place of opencv-python-headless"):
        require_gui(headless, {"DISPLAY": ":0"}, "linux", lambda: "")
    with pytest.raises(InputError, match="no windows"):
        require_gui("nothing of the kind", {"DISPLAY": ":0"}, "linux", lambda: "")
    with pytest.raises(InputError, match=r"no screen.*--headless, or --serve"):
        require_gui(full, {}, "linux", lambda: "")
    with pytest.raises(InputError, match=r"cannot open a window here \(no plugin\): use --headless"):
        require_gui(full, {"DISPLAY": ":0"}, "linux", lambda: "no plugin")
    require_gui(full, {"WAYLAND_DISPLAY": "wayland-0"}, "linux", lambda: "")
    require_gui(full, {}, "darwin", lambda: "")


def test_opening_a_window_is_tried_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from solov2_edge.demos import highgui

    for code, wanted in (("", ""), ("import sys; sys.exit('no plugin')", "no plugin"), ("import os; os.abort()", "-6")):
        monkeypatch.setattr(highgui, "PROBE", code)
        assert wanted in highgui._probe()
        assert bool(highgui._probe()) is bool(wanted)
    monkeypatch.setattr(highgui, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(highgui, "PROBE_SECONDS", 0.2)
    assert "no answer" in highgui._probe()
