"""The live page in a real browser, over a camera of drawn shapes and a network that finds the same six discs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.demos.live import run_live
from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.serve import ServeView
from solov2_edge.manifest import InputContract, Manifest
from solov2_edge.runtime.fake import FakeSession
from solov2_edge.runtime.planted import planted_outputs
from solov2_edge.runtime.preprocess import fixed_geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.source_shapes import ShapeSource
from solov2_edge.spec import ModelSpec

SECONDS = 60
NAMES = ("nut", "bolt", "washer")
SCORES = (0.95, 0.85, 0.75, 0.65, 0.55, 0.45)  # classes in turn
LIVE = "document.querySelector('#state')?.textContent === 'live'"
PICTURE = "document.querySelector('#picture').toDataURL()"
MEASURES = """(() => {
  const box = (e) => e.getBoundingClientRect();
  const seen = [...document.querySelectorAll('body *')].filter((e) => box(e).width > 0);
  const width = document.documentElement.clientWidth;
  const wide = seen.filter((e) => box(e).right > width + 1 || box(e).left < -1);
  const clipped = seen.filter((e) => e.matches('p, button, b, .card') && e.scrollWidth > e.clientWidth + 1);
  return {
    scroll: document.documentElement.scrollWidth, width,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    clipped: clipped.filter((e) => e.clientWidth > 0).map((e) => e.outerHTML.slice(0, 80)),
    least: Math.min(...seen.map((e) => parseFloat(getComputedStyle(e).fontSize))),
    button: Math.min(...[...document.querySelectorAll('button, .button')].map((e) => box(e).height || 99)),
    picture: box(document.querySelector('#picture')).width,
    beside: box(document.querySelector('aside')).top < box(document.querySelector('.buttons')).top,
    ground: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.fixture(scope="module")
def browser(chromium: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def segmenter() -> Segmenter:
    spec = ModelSpec(
        name="planted", class_names=NAMES, pyramid_width=8, tower_width=8, mask_width=8, mask_channels=4,
        norm_groups=4, grids=(8, 6, 4, 2, 1),
    )  # fmt: skip
    contract = InputContract("image", 96, 128)
    raw = planted_outputs(spec, fixed_geometry(240, 320, 96, 128), len(SCORES), score=1.0)
    for cells in (raw.class_scores == 1.0, (raw.class_scores > 0) & (raw.class_scores < 1.0)):
        where = np.argwhere(cells)
        raw.class_scores[where[:, 0], where[:, 1]] *= np.resize(SCORES, len(where))
    return Segmenter(FakeSession(Manifest(spec, "onnx", "fp32", contract), raw))


class Run:
    """A live run in a thread of its own."""

    def __init__(self, token: str | None = None) -> None:
        self.controls = Controls(NAMES)
        self.view = ServeView("127.0.0.1", 0, self.controls, token, title="a camera of shapes")
        self.summary: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with segmenter() as segment:
            self.summary = run_live(segment, ShapeSource(320, 240, fps=20), [self.view], self.controls)

    def end(self) -> None:
        self.controls.stop()
        self._thread.join()


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.end()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")]
    assert not left


def text(page: Any, element: str) -> str:
    return str(page.evaluate(f"document.getElementById('{element}').textContent"))


def waits(page: Any, element: str, wanted: str) -> None:
    page.wait_for(f"document.getElementById('{element}')?.textContent === '{wanted}'", SECONDS)


def test_the_picture_moves_and_the_figures_are_there(browser: Any, run: Run) -> None:
    page = browser.open(run.view.url)
    page.wait_for(LIVE)
    waits(page, "count", "6")
    first = page.evaluate(PICTURE)
    page.wait_for(f"{PICTURE} !== {first!r}")
    assert page.evaluate("[document.querySelector('#picture').width, document.querySelector('#picture').height]") == [
        320, 240,
    ]  # fmt: skip
    assert page.evaluate("document.title") == "a camera of shapes - solov2-edge live"
    assert float(text(page, "fps")) > 0
    assert float(text(page, "p95")) >= float(text(page, "p50")) >= 0
    page.wait_for("document.querySelector('#curve').getAttribute('points').split(' ').length > 2")
    counts = "[...document.querySelectorAll('#classes li')].map((e) => e.textContent)"
    assert page.evaluate(counts) == ["nut2", "bolt2", "washer2"]
    assert page.errors == []
    page.close()


def test_the_slider_changes_the_count_of_instances(browser: Any, run: Run) -> None:
    page = browser.open(run.view.url)
    waits(page, "count", "6")
    for least, count in ((0.6, "4"), (0.9, "1"), (0.1, "6")):
        page.slide("#score", least)
        waits(page, "count", count)
        assert run.controls.settings.score_threshold == least
        assert text(page, "score-out") == f"{least:.2f}"
    page.slide("#alpha", 1.0)
    page.wait_for("document.getElementById('alpha-out').textContent === '1.00'")
    assert page.errors == []
    page.close()


def test_classes_can_be_left_out(browser: Any, run: Run) -> None:
    page = browser.open(run.view.url)
    page.wait_for(LIVE)
    page.click("#classes li:nth-child(2) input")
    waits(page, "count", "4")
    assert run.controls.settings.classes == frozenset({"nut", "washer"})
    waits(page, "classes-note", "2 of 3 shown")
    page.click("#none")
    waits(page, "count", "0")
    page.click("#all")
    waits(page, "count", "6")
    assert run.controls.settings.classes is None
    assert page.errors == []
    page.close()


def test_pausing_stops_the_picture_on_every_page_and_settings_still_show(browser: Any, run: Run) -> None:
    other, page = browser.open(run.view.url), browser.open(run.view.url)
    page.wait_for(LIVE)
    page.click("#pause")
    for one in (page, other):
        waits(one, "state", "paused")
        waits(one, "pause", "Go on")
    page.wait_for(f"new Promise((done) => {{ const n = {PICTURE}; setTimeout(() => done({PICTURE} === n), 200); }})")
    still = page.evaluate(PICTURE)
    page.slide("#score", 0.7)
    waits(page, "count", "3")
    waits(other, "score-out", "0.70")
    page.wait_for(f"{PICTURE} !== {still!r}")  # the discs that went
    still = page.evaluate(PICTURE)
    assert page.evaluate(f"new Promise((done) => setTimeout(() => done({PICTURE} === {still!r}), 300))")
    waits(page, "state", "paused")
    other.click("#pause")
    page.wait_for(LIVE)
    page.wait_for(f"{PICTURE} !== {still!r}")
    assert page.errors == other.errors == []
    page.close()
    other.close()


def test_a_snapshot_is_saved(browser: Any, run: Run, tmp_path: Path) -> None:
    page = browser.open(run.view.url)
    page.wait_for(LIVE)
    page.call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click("#snapshot")
    end = time.monotonic() + SECONDS
    while not (saved := list(tmp_path.glob("frame-*.png"))):
        assert time.monotonic() < end
        time.sleep(0.05)
    picture = cv2.imread(str(saved[0]))
    assert picture is not None
    assert picture.shape == (240, 320, 3)
    assert page.errors == []
    page.close()


def test_a_tab_in_the_background_gets_no_pictures(browser: Any, run: Run) -> None:
    page = browser.open(run.view.url)
    page.wait_for(LIVE)
    number = "document.querySelector('#picture').dataset.number"
    page.wait_for(number)
    front = browser.open("about:blank")
    page.wait_for("document.hidden")
    page.wait_for(f"new Promise((done) => {{ const n = {number}; setTimeout(() => done({number} === n), 400); }})")
    before = page.evaluate(number)
    figures = "document.querySelector('#fps').textContent + document.querySelector('#span').textContent"
    page.wait_for(f"{figures} !== {page.evaluate(figures)!r}")  # a beat a second still comes
    assert page.evaluate(number) == before
    page.call("Page.bringToFront")
    page.wait_for(f"{number} !== {before!r}")
    assert page.errors == []
    page.close()
    front.close()


def test_the_token_becomes_a_cookie_and_leaves_the_address(browser: Any) -> None:
    run = Run("a-token-that-nobody-will-guess")
    try:
        page = browser.open(run.view.url)
        page.wait_for(LIVE)
        assert page.evaluate("location.href") == f"http://localhost:{run.view.port}/"
        page.call("Page.reload")
        page.wait_for(LIVE)
        assert page.errors == []
        page.close()
    finally:
        run.end()


def test_a_foreign_page_cannot_look(browser: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "evil.html").write_text("<!doctype html><title>evil</title>", encoding="utf-8")
    page = browser.open((tmp_path / "evil.html").as_uri())
    page.wait_for("document.title === 'evil'")
    refused = (
        f"new Promise((done) => {{ const s = new WebSocket('ws://localhost:{run.view.port}/live');"
        " s.onopen = () => done('open'); s.onerror = () => done('refused'); })"
    )
    assert page.evaluate(refused) == "refused"
    embedded = (
        f"new Promise((done) => {{ const i = new Image(); i.src = '{run.view.url}snapshot.png';"
        " i.onload = () => done('loaded'); i.onerror = () => done('refused'); })"
    )
    assert page.evaluate(embedded) == "refused"
    page.close()


def test_the_end_is_said_and_a_new_start_is_found(browser: Any) -> None:
    run = Run()
    page = browser.open(run.view.url)
    page.wait_for(LIVE)
    run.end()
    waits(page, "state", "ended")
    waits(page, "veil", "The live view has ended")
    controls = Controls(("screw",))
    with ServeView("127.0.0.1", run.view.port, controls, title="another camera"):
        waits(page, "state", "starting")
        assert page.evaluate("document.querySelector('#classes').textContent") == "screw0"
        assert text(page, "source") == "another camera"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_everything_fits(browser: Any, run: Run, width: int, scheme: str) -> None:
    page = browser.open(run.view.url, width=width, height=860, scheme=scheme)
    page.wait_for(LIVE)
    waits(page, "count", "6")
    said = page.evaluate(MEASURES)
    assert said["width"] == width
    assert said["scroll"] <= width
    assert said["wide"] == []
    assert said["clipped"] == []
    assert said["button"] >= 36  # pixels, for fingers
    assert said["least"] >= 12
    assert said["picture"] > (700 if width == 1200 else 360)
    assert said["beside"] == (width == 1200)
    assert said["ground"] == {"light": "rgb(247, 247, 244)", "dark": "rgb(16, 19, 22)"}[scheme]
    shot: NDArray[np.int32] = page.screenshot().astype(np.int32)
    ground = np.abs(shot - shot[0, 0]).max(axis=2) <= 1
    assert 0.1 < ground.mean() < 0.9
    assert page.errors == []
    page.close()


def test_one_of_many_classes_is_found(browser: Any) -> None:
    controls = Controls([f"class {number}" for number in range(80)])
    with ServeView("127.0.0.1", 0, controls) as view:
        page = browser.open(view.url)
        waits(page, "state", "starting")
        for width in (400, 860, 1200):
            page.resize(width, 800)
            said = page.evaluate(MEASURES)
            assert said["wide"] == said["clipped"] == []
            assert said["scroll"] <= width
        page.evaluate("(() => { const e = document.getElementById('find'); e.value = 'CLASS 7'; })()")
        page.evaluate("document.getElementById('find').dispatchEvent(new Event('input'))")
        seen = "[...document.querySelectorAll('#classes li')].filter((e) => e.offsetHeight > 0).length"
        assert page.evaluate(seen) == 11  # 7 and 70 to 79
        page.click("#none")  # of what was found
        waits(page, "classes-note", "69 of 80 shown")
        assert page.errors == []
        page.close()
