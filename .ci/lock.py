"""Write requirements/ci.lock: what requirements/ci.txt names, each with the SHA-256 of the file that pip installs.

``python .ci/lock.py`` asks pip, which downloads what it has to. The hashes are those of Linux on x86-64 with this
Python; elsewhere install requirements/ci.txt. PyTorch is left out: which build of it is installed, and so its hash,
depends on the index (see CONTRIBUTING.md); ``make setup`` installs it first and by its version.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Made by .ci/lock.py from ci.txt: Linux on x86-64, Python 3.11. pip checks every hash; PyTorch is left out.\n"


def lines(report: Path) -> list[str]:
    """Return a pip report's packages as requirements with hashes.

    Raises:
        KeyError: pip did not tell a hash.
    """
    found = []
    for entry in json.loads(report.read_text())["install"]:
        metadata, digest = entry["metadata"], entry["download_info"]["archive_info"]["hashes"]["sha256"]
        found.append(f"{metadata['name']}=={metadata['version']} --hash=sha256:{digest}\n")
    return sorted(found, key=str.lower)


def main() -> None:
    """Ask pip and write the file."""
    wanted = [
        line for line in (ROOT / "requirements/ci.txt").read_text().splitlines() if not line.startswith("torch==")
    ]
    with tempfile.TemporaryDirectory() as place:
        asked, report = Path(place) / "asked.txt", Path(place) / "report.json"
        asked.write_text("\n".join(wanted) + "\n")
        words = ["install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", str(report)]
        subprocess.run([sys.executable, "-m", "pip", *words, "-r", str(asked)], check=True)
        (ROOT / "requirements/ci.lock").write_text(HEAD + "".join(lines(report)))


if __name__ == "__main__":
    main()
