"""Every bad input of the table ends in one sentence and its exit code, every odd one in the right result.

The verbs run in this process through ``cli.main``, each in a folder of its own, below a limit of memory and of time.
``hostile_*.py`` are the table.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile_annotations import ANNOTATIONS
from hostile_arguments import ARGUMENTS
from hostile_artefacts import ARTEFACTS
from hostile_case import Case, Kit
from hostile_checkpoints import CHECKPOINTS
from hostile_manifests import MANIFESTS
from hostile_pictures import PICTURES
from hostile_sentences import expected_words
from hostile_sources import SOURCES

from solov2_edge.cli import main

TABLE = [*CHECKPOINTS, *ARTEFACTS, *MANIFESTS, *PICTURES, *ANNOTATIONS, *ARGUMENTS, *SOURCES]
SECONDS = 120  # of processor time; 10^6 objects take a sixth of it
WAITING = 1200  # seconds of anything: what sleeps is ended then, and a busy machine ends nothing
MEMORY = 2 << 30  # bytes of address space beyond what the process has; a picture of MAX_PIXELS takes 300 MB


def test_the_table_is_large_and_its_names_are_unique() -> None:
    names = [case.name for case in TABLE]
    assert len(names) >= 300
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.torch
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_it_ends_well(
    case: Case,
    kit: Kit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    record_property("bad_input", case.name)
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path, kit)
    words = [word.replace("{case}", str(tmp_path)).replace("{out}", str(tmp_path / "out")) for word in case.words(kit)]
    words.append("--quiet")
    before = _tree(tmp_path)
    capfd.readouterr()
    started = time.process_time()
    with _bounded():
        code = main(words)
    record_property("seconds", time.process_time() - started)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "a bug in" not in err
    assert code == case.code, err
    if case.right is not None:
        case.right(tmp_path / "out")
        record_property("ending", "right")
        return
    assert code != 0, "a case without an expected result has to be refused"
    assert _tree(tmp_path) == before
    assert out.count("\n") <= 1, out  # "0 of 1 pictures segmented"
    spoken = [line for line in err.splitlines() if not line.startswith("libpng ")]  # OpenCV's decoder has its own say
    assert len(spoken) == 1, err
    assert re.match(r"(solov2-edge: )?\S.{20,}", spoken[0]), err  # a sentence, not a word
    assert re.search(expected_words(case.name) if case.says == "." else case.says, err), err
    record_property("ending", "refused")


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound time and address space while the context lasts."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"it takes more than {SECONDS} s of processor time, or {WAITING} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.alarm(WAITING)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _tree(folder: Path) -> dict[str, int]:
    """Return the files in a folder, path -> time of change in ns; an empty folder loses nobody anything."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in files}
