"""Where benchmarks keep what takes minutes to convert: a folder for each state of the code that makes artefacts.

Nothing to run here. A file that an older converter made is never found again, so that a figure is always one of the
code as it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["kept_folder"]

ROOT = Path(__file__).resolve().parent.parent
DIGITS = 12  # of the hash: enough that no two states of the code meet


def kept_folder() -> Path:
    """Return ``.cache/benchmarks/HASH``, made if need be; the hash is over converters, network and bundled weights."""
    sources = [*(ROOT / "converters").glob("*.py"), *(ROOT / "solov2_edge").glob("*.py")]
    sources += (ROOT / "solov2_edge" / "assets").glob("*.safetensors")
    state = hashlib.sha256()
    for path in sorted(sources):
        if not path.name.startswith("command_"):
            state.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = ROOT / ".cache" / "benchmarks" / state.hexdigest()[:DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
