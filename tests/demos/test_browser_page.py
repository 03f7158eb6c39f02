"""The page that runs an artefact in the browser, in a real one: instance by instance against the Python runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from solov2_edge.bundled import bundle
from solov2_edge.demos.browser_engine import BrowserEngine, find_engine
from solov2_edge.demos.browser_server import BrowserServer, page_files
from solov2_edge.errors import MissingDependencyError
from solov2_edge.runtime import Segmenter, load
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.pictures import list_pictures, read_picture

SHOWN = "import('/main.mjs').then(({shown}) => shown%s)"
RESULT = SHOWN % (
    ".result).then(({instances: {scores, labels, masks}, timings}) => ({scores, labels, timings, "
    "masks: masks.map(({data, ...place}) => ({...place, data: data.join('')}))})"
)
SETTLED = "['ready', 'failed'].includes(document.body.dataset.state)"
SAMPLES = list_pictures(bundle().pictures)


@pytest.fixture(scope="module")
def engine() -> BrowserEngine:
    try:
        return find_engine()
    except MissingDependencyError as error:
        pytest.skip(f"{error}")


@pytest.fixture(scope="module")
def browser(chromium: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.Chromium(tmp_path_factory.mktemp("profile"), chromium.FAKE_CAMERA) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(engine: BrowserEngine) -> Iterator[BrowserServer]:
    with BrowserServer(page_files(bundle().artefact, engine, SAMPLES, threads=1)) as server:
        server.start()
        yield server


@pytest.fixture(scope="module")
def page(browser: Any, server: BrowserServer) -> Iterator[Any]:
    """The page with the bundled artefact on one thread, its first sample segmented."""
    page = browser.open(server.url + "?backend=wasm")
    page.wait_for(SHOWN % ".frames > 0")
    page.wait_for(SETTLED)
    yield page
    page.close()


@pytest.fixture(scope="module")
def segment() -> Iterator[Segmenter]:
    with load(bundle().artefact, threads=1) as segment:
        yield segment


def text(page: Any, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def choose(page: Any, path: Path) -> dict[str, Any]:
    """Give the page a picture and return what it found."""
    before = page.evaluate(SHOWN % ".frames")
    page.choose_files("#file", path)
    page.wait_for(SHOWN % f".frames > {before}")
    page.wait_for(SETTLED)
    result: dict[str, Any] = page.evaluate(RESULT)
    return result


def dense(mask: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    whole = np.zeros((height, width), np.bool_)
    crop = np.frombuffer(mask["data"].encode(), np.uint8).reshape(mask["height"], mask["width"]) == ord("1")
    whole[mask["y0"] : mask["y0"] + mask["height"], mask["x0"] : mask["x0"] + mask["width"]] = crop
    return whole


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def assert_same(got: dict[str, Any], expected: Instances) -> None:
    """Every instance has its like: the same label, scores within 1e-3, masks of an IoU above 0.99.

    Those within 1e-3 of the least score that is kept may be there or not: two engines round differently.
    """
    close, least = 1e-3, DecodeOptions().keep_threshold + 1e-3
    height, width = expected.cropped.height, expected.cropped.width
    left = {rank: dense(mask, height, width) for rank, mask in enumerate(got["masks"])}
    for score, label, mask in zip(expected.scores, expected.labels, expected.masks, strict=True):
        alike = [
            rank
            for rank, other in left.items()
            if abs(got["scores"][rank] - score) < close and got["labels"][rank] == label and iou(other, mask) > 0.99
        ]
        assert alike or score < least, f"no instance like that of score {score}"
        if alike:
            del left[max(alike, key=lambda rank: iou(left[rank], mask))]
    assert [got["scores"][rank] for rank in left if got["scores"][rank] >= least] == []


def png(folder: Path, frame: NDArray[np.uint8]) -> Path:
    """Write a frame without loss: browsers and OpenCV decode JPEG a little differently."""
    path = folder / "picture.png"
    assert cv2.imwrite(str(path), frame)
    return path


def frames() -> dict[str, NDArray[np.uint8]]:
    purple, fluorescent = read_picture(SAMPLES[1]), read_picture(SAMPLES[0])
    return {
        "sample": purple,
        "tall": np.concatenate([fluorescent[:, :150], fluorescent[::-1, :150], fluorescent[:, :150]]),
        "wide": np.ascontiguousarray(np.concatenate([purple[:120], purple[:120, ::-1]], axis=1)),
        "large": np.asarray(cv2.resize(purple, None, fx=3.7, fy=3.7, interpolation=cv2.INTER_CUBIC), np.uint8),
        "odd": np.ascontiguousarray(fluorescent[3:104, 7:210]),
    }


@pytest.mark.parametrize("name", list(frames()))
def test_the_page_finds_what_python_finds(page: Any, segment: Segmenter, tmp_path: Path, name: str) -> None:
    frame = frames()[name]
    expected = segment(frame)
    assert len(expected) > 10
    assert_same(choose(page, png(tmp_path, frame)), expected)
    assert int(text(page, "#count")) == np.count_nonzero(expected.scores >= 0.3)
    assert page.errors == []


@pytest.mark.parametrize("size", [(448, 448), (64, 64), (1, 1)])
def test_a_blank_picture_holds_nothing(page: Any, segment: Segmenter, tmp_path: Path, size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 128, np.uint8)
    assert len(segment(frame)) == 0
    assert choose(page, png(tmp_path, frame))["scores"] == []
    assert text(page, "#count") == "0"
    assert page.errors == []


@pytest.mark.parametrize("size", [(24, 700), (640, 12)])
def test_a_sliver(page: Any, segment: Segmenter, tmp_path: Path, size: tuple[int, int]) -> None:
    frame = np.asarray(cv2.resize(frames()["sample"], size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    assert_same(choose(page, png(tmp_path, frame)), segment(frame))
    assert page.errors == []


def test_a_jpeg_file(page: Any, segment: Segmenter) -> None:
    got, expected = choose(page, SAMPLES[2]), segment(read_picture(SAMPLES[2]))
    sure = expected[expected.scores > 0.3]
    assert len(sure) > 5
    masks = [dense(mask, sure.cropped.height, sure.cropped.width) for mask in got["masks"]]
    assert all(max(iou(mask, other) for other in masks) > 0.9 for mask in sure.masks)


def test_what_is_no_picture_is_named(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no picture", encoding="utf-8")
    page.choose_files("#file", path)
    page.wait_for("document.body.dataset.state == 'failed'")
    assert "notes.png is no picture this browser can read" in text(page, "#status")
    assert page.errors == []


def test_the_threshold_decides_what_is_shown(page: Any, segment: Segmenter, tmp_path: Path) -> None:
    frame = frames()["sample"]
    scores = segment(frame).scores
    choose(page, png(tmp_path, frame))
    runs = page.evaluate(SHOWN % ".frames")
    for threshold in (0.05, 0.5, 0.95, 0.3):
        page.slide("#threshold", threshold)
        shown = np.count_nonzero(scores >= threshold)
        assert int(text(page, "#count")) == shown
        assert text(page, "#threshold-value") == f"{threshold:.2f}"
    assert page.evaluate(SHOWN % ".frames") == runs  # nothing is computed again
    assert f"{len(scores) - shown} below the threshold" in text(page, "#hidden")


def test_the_instances_are_drawn(page: Any, segment: Segmenter, tmp_path: Path) -> None:
    frame = frames()["sample"]
    choose(page, png(tmp_path, frame))
    drawn = "document.getElementById('canvas').toDataURL()"
    page.slide("#threshold", 0.3)
    some = page.evaluate(drawn)
    page.slide("#threshold", 0.95)
    none = page.evaluate(drawn)
    page.slide("#threshold", 0.3)
    assert page.evaluate(drawn) == some != none
    place = page.evaluate(
        "(() => { const r = document.getElementById('canvas').getBoundingClientRect();"
        " return [r.x, r.y + scrollY, r.width, r.height].map(Math.round); })()"
    )
    x, y, width, height = place
    shot = page.screenshot(whole=True)[y : y + height, x : x + width].astype(np.int32)
    plain = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.int32)
    changed = np.abs(shot - plain).max(axis=2) > 25
    instances = segment(frame)
    anywhere = np.asarray(instances[instances.scores >= 0.3].masks.any(axis=0), np.uint8)
    covered = cv2.resize(anywhere, (width, height)).astype(np.bool_)
    assert changed[covered].mean() > 0.7
    assert changed[~covered].mean() < 0.15


def test_the_panel_says_what_runs(page: Any, tmp_path: Path) -> None:
    timings = choose(page, png(tmp_path, frames()["odd"]))["timings"]
    assert all(timings[stage] > 0 for stage in ("preprocess", "network", "decode"))
    shown = [float(number) for number in re.findall(r"([\d.]+) ms", text(page, "#times"))]
    # To a tenth; where two are equally near, Python and JavaScript write different ones.
    assert all(min(abs(number - timings[stage]) for number in shown) < 0.0501 for stage in timings)
    assert "Runs on WebAssembly, 1 thread" in text(page, "#backend-note")
    facts = text(page, "#facts")
    assert all(word in facts for word in ("nano-nuclei.fp32.onnx", "fp32", "nucleus", "CC0"))


def test_the_camera(page: Any) -> None:
    before = page.evaluate(SHOWN % ".frames")
    page.click("#camera")
    page.wait_for(SHOWN % f".frames >= {before + 3}")
    assert page.evaluate("document.body.dataset.state") == "live"
    assert text(page, "#camera") == "Stop camera"
    assert "frames per second" in text(page, "#rate")
    page.click("#camera")
    page.wait_for("document.getElementById('camera').innerText == 'Use camera'")
    after = page.evaluate(SHOWN % ".frames")
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")
    assert page.evaluate(SHOWN % ".frames") == after
    assert page.errors == []


def test_two_threads_compute_the_same(browser: Any, server: BrowserServer, segment: Segmenter, tmp_path: Path) -> None:
    page = browser.open(server.url + "?backend=wasm&threads=2")
    page.wait_for(SHOWN % ".frames > 0")
    assert page.evaluate("crossOriginIsolated")
    assert "2 threads" in text(page, "#backend-note")
    frame = frames()["odd"]
    assert_same(choose(page, png(tmp_path, frame)), segment(frame))
    assert page.errors == []
    page.close()


def test_a_backend_that_is_not_there_is_named(browser: Any, server: BrowserServer) -> None:
    page = browser.open(server.url + "?backend=webgpu")
    page.wait_for(SETTLED)
    assert "no WebGPU" in text(page, "#status")
    assert page.errors == []
    page.close()


def test_an_artefact_that_is_damaged_is_named(browser: Any, engine: BrowserEngine, tmp_path: Path) -> None:
    artefact = tmp_path / "cut & short.onnx"
    artefact.write_bytes(bundle().artefact.read_bytes()[:-300])
    with BrowserServer(page_files(artefact, engine)) as server:
        server.start()
        page = browser.open(server.url)
        page.wait_for("document.body.dataset.state == 'failed'")
        assert "cut short" in text(page, "#status")
        assert page.errors == []
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_everything_fits(browser: Any, server: BrowserServer, width: int, scheme: str) -> None:
    page = browser.open(server.url + "?backend=wasm", width=width, scheme=scheme)
    page.wait_for(SHOWN % ".frames > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1"
        " || (e.matches('.card, dd, dt, button, p') && e.scrollWidth > e.clientWidth + 1)).map((e) => e.outerHTML)"
    )
    assert wide == []
    ground = page.screenshot()[2, 2]
    assert (ground.mean() < 60) == (scheme == "dark")
    assert page.errors == []
    page.close()
