"""How a verb talks to its user: results on stdout, everything else on stderr.

With ``--json`` stdout carries one JSON object and nothing more, so that a script can pipe it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["CommandResult", "Console", "json_ready"]

T = TypeVar("T")


@dataclass(slots=True)
class CommandResult:
    """What a verb hands back.

    Attributes:
        data: the result as JSON-ready plain data; printed with ``--json``.
        exit_code: 0 done, 2 some inputs were bad, 3 a gate failed.
    """

    data: dict[str, Any]
    exit_code: int = 0


class Console:
    """Where a verb writes.

    Attributes:
        json_mode: stdout is kept for one JSON object.
        quiet: no logs and no progress bars; results and errors stay.
    """

    def __init__(self, *, json_mode: bool = False, quiet: bool = False) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self._bar: Any = None

    def log(self, text: str) -> None:
        """Write a line about the work to stderr, unless quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Write a line of the result to stdout; with ``--json`` nothing, the object says it all."""
        if not self.json_mode:
            print(text, flush=True)

    def complain(self, text: str) -> None:
        """Write a line about bad input to stderr, also when quiet; with ``--json`` nothing, the object says it all."""
        if not self.json_mode:
            print(text, file=sys.stderr, flush=True)

    def table(self, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Write aligned columns to stdout: the first flush left, the others flush right; nothing with ``--json``."""
        lines = [header, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        for line in lines:
            first, *others = (
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            self.say("  ".join([first, *others]).rstrip())

    def track(self, items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
        """Yield from ``items`` under a progress bar on stderr, if that is a terminal and not quiet.

        Args:
            items: what to walk through.
            total: how many there are, or None if nobody knows.
            label: what is counted, for example ``"pictures"``.
        """
        if not self._draws_bars():
            yield from items
            return
        from tqdm import tqdm

        with tqdm(items, total=total, desc=label, file=sys.stderr, leave=False) as bar:
            self._bar = bar
            try:
                yield from bar
            finally:
                self._bar = None

    def note(self, text: str) -> None:
        """Show a few words beside the bar of :meth:`track`, if one is drawn."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    @contextmanager
    def counter(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Give a callback ``(done, total)`` that moves a progress bar under the same conditions as :meth:`track`."""
        if not self._draws_bars():
            yield lambda done, total: None
            return
        from tqdm import tqdm

        with tqdm(desc=label, file=sys.stderr, leave=False) as bar:

            def move(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield move

    def _draws_bars(self) -> bool:
        return not self.quiet and sys.stderr.isatty()

    def emit(self, data: Mapping[str, Any]) -> None:
        """Write the one JSON object of ``--json`` to stdout."""
        if self.json_mode:
            print(json.dumps(json_ready(data), allow_nan=False), flush=True)


def json_ready(value: Any) -> Any:
    """Return ``value`` with paths as strings, tuples as lists and numbers JSON does not know (NaN) as null."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
