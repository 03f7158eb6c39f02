"""The page of a conversion: what it cost and what it brought, for somebody who decides whether to ship it.

One self-contained HTML file without scripts; nothing is loaded from anywhere.
"""

from __future__ import annotations

from html import escape

from solov2_edge.demos import conversion_parts as parts
from solov2_edge.demos import conversion_plots as plots
from solov2_edge.demos import report_parts
from solov2_edge.demos.conversion_data import ConversionReport, Timing
from solov2_edge.demos.conversion_style import CONVERSION_STYLE
from solov2_edge.demos.report import document, section

__all__ = ["render_conversion"]


def render_conversion(report: ConversionReport) -> str:
    """Return the page as HTML text."""
    count = len(report.files)
    title = f"{report.model}: {'one file' if count == 1 else f'{count} files'}, measured"
    sections = [
        section("At a glance", "", parts.tiles(report)),
        section("The files", _files_text(report), parts.files(report)),
    ]
    if drops := plots.drops(report):
        sections.append(section("What it cost", _drops_text(report), drops))
    if report.timing is not None and (bars := plots.times(report)):
        sections.append(section("What it brought", _times_text(report.timing), bars + _warnings(report.timing)))
    sections += _parity(report)
    if report.sensitivity and (layers := plots.sensitivity(report.sensitivity)):
        sections.append(section("Which layers suffer", "", layers))
    if worst := parts.worst(report):
        sections.append(
            section(
                "Where they disagree most",
                f"The pictures of lowest panoptic quality out of {report.compared}, of what scores 0.3 or more.",
                worst,
            )
        )
    sections.append(section("Where it comes from", "", parts.origins(report)))
    if report.commands:
        sections.append(section("Measure it again", "", report_parts.commands(report.commands)))
    head = (
        f'<p class="over">solov2-edge report</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_lead(report))}</p>{report_parts.notes(report.notes)}'
    )
    return document(title, head + "".join(sections), CONVERSION_STYLE)


def _lead(report: ConversionReport) -> str:
    failed = [file.title for file in report.files if not file.passed]
    verified = "All were verified" if not failed else f"Verification FAILED for {', '.join(failed)}; the rest passed"
    if len(report.files) == len(failed):
        verified = "Verification FAILED"
    elif len(report.files) == 1:
        verified = "It was verified"
    said = f"{verified} against PyTorch stage by stage on {_pictures(report.compared)}."
    over = [
        file.title
        for file in report.files
        if report.max_drop is not None and file.drop is not None and file.drop.value > report.max_drop
    ]
    if report.max_drop is None:
        return said
    kept = f"{', '.join(over)} lost more" if over else "none lost more" if len(report.files) > 1 else "it lost less"
    return f"{said} At most {report.max_drop:g} points of AP may be lost: {kept}."


def _pictures(count: int) -> str:
    return "one picture" if count == 1 else f"{count} pictures"


def _files_text(report: ConversionReport) -> str:
    text = (
        f"AP is COCO mask AP in points of 100 on {_pictures(report.pictures)} with {report.objects} objects, below it "
        "where it lies with 95 % confidence. The drop is counted from "
        f"{report.baseline}. Instances are those PyTorch finds that the file finds as well, at mask IoU 0.5."
    )
    if any(file.network is None for file in report.files):
        text += " A dash stands for a time that would say nothing: that file was interpreted, not run by its engine."
    return text


def _drops_text(report: ConversionReport) -> str:
    text = (
        f"Points of mask AP lost against {report.baseline}: the dot is the drop on these pictures, the line where it "
        "lies with 95 % confidence, drawing the same pictures anew for both. Left of zero is a gain."
    )
    return text if report.max_drop is None else f"{text} The red line is what is allowed: {report.max_drop:g}."


def _times_text(timing: Timing) -> str:
    return (
        f"Time of the network over that of {timing.reference}, median of {timing.rounds} rounds in which all files "
        f"took turns, so that drift of the machine cancels. A fading bar goes on. {timing.machine}."
    )


def _warnings(timing: Timing) -> str:
    said = "".join(f"<p>{escape(text)}</p>" for text in timing.warnings)
    return f'<div class="notes warning">{said}</div>' if said else ""


def _parity(report: ConversionReport) -> list[str]:
    bars = report_parts.parity(report.files)
    text = (
        "The network's outputs against PyTorch's on the same input, on a logarithmic scale: the largest difference as "
        "a share of the output's range, for rounded precisions the noise over all pictures as a share of the "
        "output's spread. The upright line is the bound; a bar beyond it fails."
    )
    folded = parts.stages(report)
    return [section("Does it still compute the same?", text, bars + f"<h3>Stage by stage</h3>{folded}")]
