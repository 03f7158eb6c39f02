"""Running a verb in a process whose output folder lies on a disk of a few kilobytes."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from solov2_edge.cli import main

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # flags of unshare(2), as of clone(2)


@dataclass(frozen=True)
class Ending:
    """How a verb ended: its exit code, what it said on stderr, and the files that were left, name -> bytes."""

    code: int
    said: str
    left: dict[str, int]


def run_on(folder: Path, kilobytes: int, argv: list[str]) -> Ending:
    """Run a verb in a forked process in which ``folder`` is an empty disk of that size.

    Where a process may mount nothing, no file grows beyond that size instead: the system says the same with another
    number.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        said = folder.parent / "said.txt"
        sys.stderr = sys.stdout = said.open("w")
        _shrink(folder, kilobytes)
        code = main([*argv, "--quiet"])
        sys.stderr.flush()
        left = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        os.write(writing, json.dumps([code, said.read_text(), left]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the process ended with {status}"
    return Ending(*json.loads(text))


def _shrink(folder: Path, kilobytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    own = NEW_MOUNTS if os.geteuid() == 0 else NEW_MOUNTS | NEW_USER
    options = f"size={kilobytes}k".encode()
    if libc.unshare(own) == 0 and libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, options) == 0:
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))
