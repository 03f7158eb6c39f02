from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from solov2_edge.demos.compare import FIRST, SECOND
from solov2_edge.demos.conversion_data import ConversionReport, Figure, LayerCost
from solov2_edge.demos.conversion_plots import drops, sensitivity, times
from solov2_edge.demos.conversion_report import render_conversion
from solov2_edge.demos.conversion_style import CONVERSION_STYLE

VOID = {"meta", "img", "input", "br"}


class Checker(HTMLParser):
    """Collects what a page would load, its headings and its pictures; fails on unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for name, v in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(report: ConversionReport) -> tuple[str, Checker]:
    page = render_conversion(report)
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return page, checker


def body(page: str) -> str:
    return page.split("</style>")[1]


def test_the_page_is_whole_and_loads_nothing(conversion: ConversionReport) -> None:
    page, checker = check(conversion)
    assert len(checker.addresses) == 3
    assert all(address.startswith("data:image/jpeg;base64,") for address in checker.addresses)
    assert not {"script", "link", "iframe", "object"} & set(checker.tags)
    assert not re.search(r"https?://|//cdn|@import|url\(", page)
    assert "default-src 'none'" in page


def test_headings_go_down_one_at_a_time(conversion: ConversionReport) -> None:
    levels = [int(tag[1]) for tag in check(conversion)[1].tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_says_what_it_is_and_how_large(conversion: ConversionReport) -> None:
    for picture in check(conversion)[1].pictures:
        assert picture["alt"]
        assert (picture["width"], picture["height"]) == ("160", "120")


def test_text_is_escaped(conversion: ConversionReport) -> None:
    page = body(check(conversion)[0])
    for raw, escaped in (("a<b>", "a&lt;b&gt;"), ("A <note>", "A &lt;note&gt;"), ("p&q", "p&amp;q")):
        assert raw not in page
        assert escaped in page


def test_everything_measured_is_on_the_page(conversion: ConversionReport) -> None:
    page = body(check(conversion)[0])
    for text in (
        "6.5 MB", "53.6", "48.2 to 58.9", "0.10 to 1.40", "0.25 ×", "90<small>of 90", "A processor, 2 of 2 cores",  # noqa: RUF001
        "median of 40 rounds", "was not quiet", "failed: network noise of kernels", "not finite", "≥ 1",
        "3 only in PyTorch", "2 only in this file", "quality 0.871", "a" * 64, "b" * 64, "c" * 64, "64 pictures",
        "54 pictures with 2000 objects", "backbone.layer0", "12.0 M MAC", "solov2-edge report a.onnx",
    ):  # fmt: skip
        assert text in page, text


def test_a_failed_file_cannot_be_overlooked(conversion: ConversionReport) -> None:
    page = body(check(conversion)[0])
    assert "Verification FAILED for Core ML int8; the rest passed" in page
    assert "At most 0.5 points of AP may be lost: Core ML int8 lost more." in page
    assert '<details open><summary><b>Core ML int8</b><span class="marks"><span class="good">preprocess' in page
    assert 'class="over-bound"' in page
    assert "<b>2 <small>of 3</small></b>" in page


def test_a_sound_conversion_says_so(conversion: ConversionReport) -> None:
    page = body(check(replace(conversion, files=(conversion.files[0],), timing=None))[0])
    assert "It was verified against PyTorch stage by stage on 20 pictures." in page
    assert "it lost less" in page
    assert "<h1>nano: one file, measured</h1>" in page
    assert 'class="bad"' not in page
    assert 'class="over-bound"' not in page


def test_a_drop_of_almost_nothing_has_no_sign(conversion: ConversionReport) -> None:
    page = body(check(replace(conversion, files=(conversion.files[0],)))[0])
    assert '<td data-label="drop">0.00<small>−0.02 to 0.03' in page  # noqa: RUF001


def test_what_was_not_measured_is_left_out(conversion: ConversionReport) -> None:
    bare = replace(conversion.files[0], drop=None, network=None, network_ms=None, ap=Figure(50.0), parity=())
    page, checker = check(replace(conversion, files=(bare,), timing=None, sensitivity=(), commands=(), max_drop=None))
    for heading in (
        "What it cost",
        "What it brought",
        "Which layers suffer",
        "Where they disagree",
        "Measure it again",
    ):
        assert heading not in body(page)
    assert "too few pictures for an interval" in page
    assert checker.pictures == []


@pytest.mark.parametrize(
    ("values", "place"),
    [((0.0, 1.0), {"0.00", "100.00"}), ((-1.0, 1.0), {"0.00", "100.00", "50.00"}), ((0.0, 0.0), {"0.00"})],
)
def test_the_drops_share_one_axis_with_zero_on_it(
    conversion: ConversionReport, values: tuple[float, float], place: set[str]
) -> None:
    files = tuple(replace(conversion.files[0], drop=Figure(value)) for value in values)
    plot = drops(replace(conversion, files=files, max_drop=None))
    dots = re.findall(r'<b style="left:([\d.]+)%"', plot)
    zeros = set(re.findall(r'<u style="left:([\d.]+)%"', plot))
    assert len(dots) == 2
    assert set(dots) <= place
    span = (max(values) - min(values)) or 1.0
    assert zeros == {f"{100 * (0.0 - min(values)) / span:.2f}"}


def test_a_drop_beyond_what_is_allowed_is_marked(conversion: ConversionReport) -> None:
    assert drops(conversion).count("class=over") == 1
    assert drops(replace(conversion, max_drop=1.0)).count("class=over") == 0


def test_layers_are_ranked_by_harm() -> None:
    by_drop = sensitivity((LayerCost("a", 0.1), LayerCost("b", 0.4, 30.0), LayerCost("c", -0.2)))
    assert re.findall(r'<span title="(\w)">', by_drop) == ["b", "a", "c"]
    assert re.findall(r"width:([\d.]+)%", by_drop) == ["100.00", "25.00", "0.00"]
    by_noise = sensitivity((LayerCost("a", None, 40.0), LayerCost("b", None, 20.0)))
    assert re.findall(r'<span title="(\w)">', by_noise) == ["b", "a"]
    assert re.findall(r"width:([\d.]+)%", by_noise) == ["100.00", "10.00"]
    assert "dB" in by_noise
    both = sensitivity((LayerCost("a", 0.9, 40.0), LayerCost("b", 0.1, 20.0)))
    assert re.findall(r'<span title="(\w)">', both) == ["b", "a"]  # noise is steadier than AP
    assert "20.0 dB, 0.10 points" in both
    many = sensitivity(tuple(LayerCost(f"l{i}", 0.01 * i) for i in range(50)))
    assert many.count('class="plot layer"') == 40
    assert "40 worst of 50" in many


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = "".join(c * 2 for c in colour) if len(colour) == 3 else colour
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(scheme: int) -> None:
    """WCAG 2.2 success criteria 1.4.3 (text, 4.5) and 1.4.11 (marks, 3)."""
    block = re.findall(r":root \{(.*?)\}", CONVERSION_STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): #([0-9a-f]{3,6})", block))
    for text in ("ink", "soft", "accent", "good", "bad"):
        for ground in ("page", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["soft"], colours["track"]) >= 4.5
    for mark in ("net", "bad"):
        for ground in ("card", "track"):
            assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)


def test_the_legend_has_the_colours_of_the_overlays() -> None:
    for name, bgr in (("first", FIRST), ("second", SECOND)):
        assert f".{name} {{ background: rgb({bgr[2]}, {bgr[1]}, {bgr[0]})" in CONVERSION_STYLE


def test_one_very_slow_file_leaves_the_others_their_bars(conversion: ConversionReport) -> None:
    files = tuple(replace(conversion.files[0], network=Figure(value)) for value in (1.0, 0.3, 33.0))
    plot = times(replace(conversion, files=files))
    assert re.findall(r"width:([\d.]+)%", plot) == ["33.33", "10.00", "100.00"]
    assert plot.count("class=beyond") == 1
    assert "33.00" in plot
