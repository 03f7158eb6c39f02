"""Keeping a native library's chatter off the terminal while it opens a file, and at hand for the error sentence."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

__all__ = ["captured_stderr"]

# Lines of TFLite, LiteRT, Abseil and Dawn; whatever else arrives meanwhile, from another thread say, is passed on.
CHATTER = re.compile(r"INFO|WARNING|Warning|ERROR|VERBOSE|[IWEF]\d{4} |=== Source Location|third_party/|└|\s|$")
_LOCK = threading.RLock()  # descriptor 2 belongs to the whole process


@contextlib.contextmanager
def captured_stderr(chatter: re.Pattern[str] = CHATTER) -> Iterator[Callable[[], str]]:
    """Catch what is written to descriptor 2; yields a function that returns the text, callable afterwards too.

    Lines that do not begin with ``chatter`` are passed on.
    Where there is no such descriptor (a program without a console), nothing is caught.
    """
    text = ""
    with _LOCK, tempfile.TemporaryFile() as aside:
        try:
            saved = os.dup(2)
        except OSError:
            yield lambda: ""
            return
        _flush()
        os.dup2(aside.fileno(), 2)

        def so_far() -> str:
            return text

        try:
            yield so_far
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)
            aside.seek(0)
            text = aside.read().decode(errors="replace")
    for line in text.splitlines():
        if not chatter.match(line):
            os.write(2, f"{line}\n".encode())


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None without a console
        sys.stderr.flush()
