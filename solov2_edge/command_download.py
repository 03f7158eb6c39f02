"""``solov2-edge download NAME``: a published checkpoint, into the cache or a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from solov2_edge.console import CommandResult, Console
from solov2_edge.download import download
from solov2_edge.transfer import Progress
from solov2_edge.zoo import published

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("name", metavar="NAME", help="a name from: solov2-edge models")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder to put the file in (default: the cache)")


def run(args: argparse.Namespace, console: Console) -> CommandResult:
    """Fetch, check and say where the file is, what its hash is and what its licence allows."""
    entry = published(args.name)
    with _bar(console, entry.file_name) as progress:
        result = download(entry, args.output, progress=progress)
    console.say(str(result.path))
    console.say(f"sha256   {result.sha256}")
    if not result.hash_published:
        console.say("         (its publisher states none; this one is remembered, and a change will be noticed)")
    console.say(f"licence  {entry.licence}")
    return CommandResult(
        {
            "name": entry.name,
            "path": str(result.path),
            "sha256": result.sha256,
            "hash_published": result.hash_published,
            "from_cache": result.from_cache,
            "licence": entry.licence,
        }
    )


@contextmanager
def _bar(console: Console, label: str) -> Iterator[Progress | None]:
    """Show bytes on stderr while the context lasts, if that is a terminal and not quiet."""
    if console.quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=label, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
