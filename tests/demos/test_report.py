from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from solov2_edge.demos.report import render_report
from solov2_edge.demos.report_data import ArtefactFacts, PictureFacts, Report, StageParity

PICTURE = PictureFacts(
    "a<b>", 'A "caption" & more', 320, 256, b"raw", b"found", b"truth", 3, 4,
    {"preprocess": 1.0, "network": 20.0, "decode": 4.0},
)  # fmt: skip
FILE = ArtefactFacts(
    "m.fp16.onnx", "onnxruntime 1", 4_200_000, 47.12, 78.9, 20.0,
    (StageParity("class scores", 1.2e-3, 1e-2), StageParity("kernels", 0.0, 1e-2)), "3 of 3 instances matched", True,
)  # fmt: skip
REPORT = Report(
    "nucleus", "nuclei", "nano", (PICTURE, PICTURE), (FILE,), ("A note.",), {"Checkpoint": "c", "SHA-256": "a" * 64},
    (("Go", "solov2-edge segment"),),
)  # fmt: skip

VOID = {"meta", "img", "input", "br"}


class Checker(HTMLParser):
    """Collects unbalanced tags and every address the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_loads_nothing() -> None:
    checker = check(render_report(REPORT))
    assert all(address.startswith("data:image/jpeg;base64,") for address in checker.addresses)
    assert len(checker.addresses) == 6
    assert "script" not in checker.tags
    assert "link" not in checker.tags


def test_nothing_points_outside() -> None:
    page = render_report(REPORT)
    assert not re.search(r"https?://|//cdn|@import|url\(", page)


def test_pictures_come_before_numbers() -> None:
    page = render_report(REPORT)
    assert page.index("<figure") < page.index('class="tiles"') < page.index("<table")


def test_text_is_escaped() -> None:
    page = render_report(REPORT)
    assert "a<b>" not in page
    assert "&quot;caption&quot; &amp; more" in page


@pytest.mark.parametrize(
    ("report", "title"),
    [
        (REPORT, "6 nuclei in 2 pictures"),
        (replace(REPORT, pictures=(replace(PICTURE, found_count=1),)), "1 nucleus in one picture"),
        (replace(REPORT, pictures=(replace(PICTURE, found_count=0),)), "0 nuclei in one picture"),
    ],
)
def test_the_title_counts(report: Report, title: str) -> None:
    page = render_report(report)
    check(page)
    assert f"<h1>{title}</h1>" in page


def test_numbers_are_on_the_page() -> None:
    page = render_report(REPORT)
    for text in ("47.1", "78.9", "4.2 MB", "25 ms", "1.2·10<sup>−3</sup>", "passed", "3 of 3", "a" * 64):  # noqa: RUF001
        assert text in page
    assert "A note." in page


def test_a_bar_beyond_its_bound_is_marked() -> None:
    bad = replace(FILE, parity=(StageParity("kernels", 0.5, 1e-2),), passed=False)
    page = render_report(replace(REPORT, artefacts=(bad,)))
    assert 'class="over-bound"' in page
    assert "failed" in page
    assert 'class="over-bound"' not in render_report(REPORT)


def test_without_pytorch_the_page_says_less_but_stands() -> None:
    bare = ArtefactFacts("m.fp32.onnx", "onnxruntime 1", 8_000_000, None, None, 20.0)
    page = render_report(replace(REPORT, artefacts=(bare,), pictures=(replace(PICTURE, annotated=b""),), commands=()))
    check(page)
    assert "Does it still compute the same?" not in page
    assert "show-annotated" not in page.split("</style>")[1]
