"""Which engine runs an artefact fastest here: what ``advise --remember`` measured, for ``load(path, engine="auto")``.

A record holds for one artefact on one processor, with one number of cores and one set of versions. Where any of them
changes it is not found, and the artefact opens in its own engine until somebody measures again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from solov2_edge.errors import InputError, require
from solov2_edge.files import write_aside
from solov2_edge.manifest import sha256_of

__all__ = ["CACHE_VARIABLE", "EngineRecord", "record_file", "recorded", "remember"]

CACHE_VARIABLE = "SOLOV2_EDGE_ENGINE_CACHE"
DIGITS = 24  # of the hash that names a record


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What was measured of one artefact.

    Attributes:
        artefact: its file name, for people.
        engine: the one to open it in.
        milliseconds: engine -> median of a whole frame.
        threads: asked for when it was measured; None: each engine's own choice.
        when: of the measurement, UTC.
    """

    artefact: str
    engine: str
    milliseconds: Mapping[str, float]
    threads: int | None
    when: str

    def __post_init__(self) -> None:
        times = self.milliseconds
        require(
            isinstance(times, Mapping) and self.engine in times and all(isinstance(t, float) for t in times.values()),
            f"a record of engines must hold a time of {self.engine!r}, got {times!r}",
        )


def record_file(path: str | os.PathLike[str]) -> Path:
    """Return where the record of an artefact on this machine lies, whether there is one or not.

    The folder is ``SOLOV2_EDGE_ENGINE_CACHE``, else one in the user's cache.
    """
    import platformdirs  # here, because the runtime's import time is bounded

    from solov2_edge.runtime.machine import read_machine, versions

    machine = read_machine()
    key = {
        "artefact": sha256_of(Path(path)),
        "cpu": machine.cpu,
        "cores": machine.usable_cores,
        "quota": machine.cpu_quota,
        "versions": {name: version for name, version in versions().items() if name != "python"},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:DIGITS]
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("solov2-edge")) / "engines"
    return folder / f"{digest}.json"


def remember(path: str | os.PathLike[str], record: EngineRecord) -> Path:
    """Write the record of an artefact on this machine, over an older one, and return its file.

    Raises:
        InputError: it cannot be written.
    """
    file = record_file(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_aside(file, json.dumps(asdict(record), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error}); set {CACHE_VARIABLE} to a folder of yours") from error
    return file


def recorded(path: str | os.PathLike[str]) -> EngineRecord | None:
    """Return what was measured of an artefact on this machine with what is installed now; None: nothing.

    Raises:
        InputError: there is a record, and it cannot be read.
    """
    file = record_file(path)
    if not file.is_file():
        return None
    try:
        return EngineRecord(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, InputError) as error:
        raise InputError(f"{file} is no record of engines ({error}); delete it, or run advise --remember") from error
