"""One self-contained HTML page: the pictures first, then the numbers. No scripts, nothing loaded from anywhere."""

from __future__ import annotations

from html import escape

from solov2_edge.demos import report_parts as parts
from solov2_edge.demos.report_data import Report
from solov2_edge.demos.report_style import STYLE

__all__ = ["document", "render_report", "section"]

# The page may show its own pictures and style, and reach nothing else.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_report(report: Report) -> str:
    """Return the page as HTML text.

    Args:
        report: what to show; at least one artefact.
    """
    found = sum(picture.found_count for picture in report.pictures)
    thing = report.thing if found == 1 else report.things
    pictures = "one picture" if len(report.pictures) == 1 else f"{len(report.pictures)} pictures"
    first = report.artefacts[0]
    title = f"{found} {thing} in {pictures}"
    sections = [
        section("What it measures", "", parts.tiles(report)),
        section(
            "The files",
            "Every file ran on the same pictures, through the same code. AP is COCO mask AP in points of 100; "
            "a handful of pictures shows that nothing broke, not how good a model is.",
            parts.table(report.artefacts),
        ),
    ]
    checked = parts.parity(report.artefacts)
    if checked:
        sections.append(
            section(
                "Does it still compute the same?",
                "Largest difference from PyTorch in each stage, as a share of the stage's range, on a logarithmic "
                "scale. The upright line is the bound; a bar beyond it fails.",
                checked,
            )
        )
    sections += [
        section(
            "Where the time goes",
            "Medians on this machine, file read and drawing left out.",
            parts.times(report.pictures),
        ),
        section("Where it comes from", "", parts.provenance(report.provenance)),
    ]
    if report.commands:
        sections.append(section("Go on", "", parts.commands(report.commands)))
    lead = f"Segmented by {first.name}, {first.size_bytes / 1e6:.1f} MB, in {first.engine}."
    head = (
        f'<p class="over">solov2-edge quickstart · {escape(report.model)}</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(lead)}</p>{parts.notes(report.notes)}'
        f"{parts.gallery(report.pictures, report.things)}"
    )
    return document(title, head + "".join(sections), STYLE)


def document(title: str, body: str, style: str) -> str:
    """Return a whole page that shows its own pictures and style, and reaches nothing else."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def section(title: str, text: str, body: str) -> str:
    """Return a section with a heading, a paragraph that may be empty, and its HTML."""
    paragraph = f"<p>{escape(text)}</p>" if text else "<p></p>"
    return f"<section><h2>{escape(title)}</h2>{paragraph}{body}</section>"
