"""``solov2-edge models``: the published and bundled checkpoints."""

from __future__ import annotations

import argparse

from solov2_edge.console import CommandResult, Console
from solov2_edge.zoo import LICENCES, ZOO, Published

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--urls", action="store_true", help="also show where each file is")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """List the table; AP in points of 100 on COCO val2017, as published, but for the bundled model."""
    entries = list(ZOO.values())
    header = ("NAME", "VARIANT", "AP", "SHA-256", "LICENCE")
    rows = [(e.name, e.variant, _ap(e), e.sha256_prefix or "-", _short_licence(e)) for e in entries]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        console.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if args.urls:
        console.say("")
        for entry in entries:
            console.say(f"{entry.name}  {entry.url or 'inside the package'}")
    console.say("")
    for licence in LICENCES.values():
        console.say(licence)
    console.say(
        "AP: COCO val2017 mask AP as published, in points of 100; the bundled model's is on its 54 validation pictures."
    )
    console.say("Fetch one with: solov2-edge download NAME")
    return CommandResult({"models": [_plain(entry) for entry in entries]})


def _ap(entry: Published) -> str:
    return "-" if entry.ap is None else f"{entry.ap:.1f}"


def _short_licence(entry: Published) -> str:
    return entry.licence.partition(":")[0].partition(" (")[0]


def _plain(entry: Published) -> dict[str, str | float | None]:
    return {
        "name": entry.name,
        "variant": entry.variant,
        "ap": entry.ap,
        "url": entry.url,
        "file_name": entry.file_name,
        "sha256_prefix": entry.sha256_prefix,
        "licence": entry.licence,
        "source": entry.source,
    }
