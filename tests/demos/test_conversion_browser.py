"""The page of a conversion in a real browser, on a desk and on a phone, light and dark.

A page of the test's own holds the report in a frame of the wanted size, measures what the browser made of it and
writes that into itself; the browser then prints the result. The report itself runs no script.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.demos.conversion_data import ConversionReport
from solov2_edge.demos.conversion_report import render_conversion
from solov2_edge.demos.conversion_style import CONVERSION_STYLE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((found for found in map(shutil.which, NAMES) if found), None)
SECONDS = 240  # two on an idle machine; a crowded one took twelve
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--allow-file-access-from-files", "--virtual-time-budget=4000",
)  # fmt: skip
SCHEMES = {"light": "1", "dark": "0"}  # blink's preferredColorScheme

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(NAMES)} is installed")

PROBE = """<!doctype html><body style="margin:0"><iframe src="report.html" style="border:0;width:%dpx;height:3000px">
</iframe><script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const width = page.documentElement.clientWidth;
  const wide = [...page.querySelectorAll("main *")].filter(
    (e) => e.getBoundingClientRect().right > width + 1 && !e.closest(".card, .ticks"));
  const clipped = [...page.querySelectorAll(".card")].filter((e) => e.scrollWidth > e.clientWidth + 1);
  const said = {
    scrollWidth: page.documentElement.scrollWidth, width,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    clipped: clipped.map((e) => e.outerHTML.slice(0, 160)),
    pictures: [...page.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width]),
    columns: new Set([...page.images].map((i) => Math.round(i.getBoundingClientRect().left))).size,
    ground: getComputedStyle(page.body).backgroundColor,
    smallest: Math.min(...[...page.querySelectorAll("main *")].map((e) => parseFloat(getComputedStyle(e).fontSize))),
  };
  const pre = document.createElement("pre"); pre.id = "said"; pre.textContent = JSON.stringify(said);
  document.body.append(pre);
});
</script>"""


@pytest.fixture
def folder(tmp_path: Path, conversion: ConversionReport) -> Path:
    (tmp_path / "report.html").write_text(render_conversion(conversion), encoding="utf-8")
    return tmp_path


def browse(folder: Path, scheme: str, *words: str) -> str:
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *OPTIONS, f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
         f"--user-data-dir={folder / 'profile'}", *words],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    return done.stdout


def ground_of(scheme: str) -> tuple[int, int, int]:
    """Red, green and blue of the page's ground."""
    digits = re.findall(r"--page: #([0-9a-f]{6})", CONVERSION_STYLE)[list(SCHEMES).index(scheme)]
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [1200, 400])
def test_everything_fits(folder: Path, width: int, scheme: str) -> None:
    (folder / "probe.html").write_text(PROBE % width, encoding="utf-8")
    dom = browse(folder, scheme, f"--window-size={width},1200", "--dump-dom", (folder / "probe.html").as_uri())
    found = re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[-500:]
    said: dict[str, Any] = json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert said["width"] == width
    assert said["scrollWidth"] <= width
    assert said["wide"] == []
    assert said["clipped"] == []
    assert [natural for natural, _ in said["pictures"]] == [160, 160, 160]
    assert all(shown > 100 for _, shown in said["pictures"])
    assert said["columns"] == (3 if width == 1200 else 1)
    assert said["dark"] == (scheme == "dark")
    assert said["ground"] == "rgb({}, {}, {})".format(*ground_of(scheme))
    assert said["smallest"] >= 9  # pixels: exponents


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [1200, 400])
def test_the_screenshot_shows_a_page(folder: Path, width: int, scheme: str) -> None:
    picture = folder / "page.png"
    browse(folder, scheme, f"--window-size={width},2400", f"--screenshot={picture}", (folder / "report.html").as_uri())
    shot = np.asarray(cv2.imread(str(picture)), np.int32)[:, :, ::-1]
    assert shot.shape[0] == 2400
    ground = np.abs(shot - np.array(ground_of(scheme))).max(axis=2) <= 1
    assert 0.15 < ground.mean() < 0.95
    assert ground[:, 0].all()  # nothing touches the edges
    assert ground[:, -1].all()
    rows = np.flatnonzero(~ground.all(axis=1))
    assert rows.min() < 100
    assert rows.max() > 1500
    assert np.diff(rows).max() < 200  # no hole in the page
