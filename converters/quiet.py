"""Keeping what libraries write of themselves away from the user's terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]

# Of libraries about their own dependencies: none of it is news to who converts a network.
THEIR_OWN = (
    # torch's exporter uses a name its pytree module has deprecated.
    (".*LeafSpec.*is deprecated", FutureWarning),
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send this process's stdout and stderr nowhere, and leave out known warnings; exceptions pass as ever.

    Compilers and interpreters written in C++ write to the descriptors, past Python's streams and logging. Anything
    other threads print meanwhile is lost too.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message, category in THEIR_OWN:
            warnings.filterwarnings("ignore", message=message, category=category)
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, level)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
            with contextlib.suppress(OSError, ValueError):  # a stream that is closed has nothing to flush
                stream.flush()
            try:
                kept = os.dup(descriptor)
            except OSError:  # this process was started without it
                continue
            stack.callback(_restore, kept, descriptor)
            os.dup2(nowhere, descriptor)
        redirected = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # closed by the stack
        stack.callback(redirected.close)
        stack.enter_context(contextlib.redirect_stdout(redirected))
        stack.enter_context(contextlib.redirect_stderr(redirected))
        yield


def _restore(kept: int, descriptor: int) -> None:
    os.dup2(kept, descriptor)
    os.close(kept)
