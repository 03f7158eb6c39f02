"""Look the versions CI installs up among known vulnerabilities: ``python .ci/audit.py requirements/ci.txt``.

pip-audit does it, from wherever pip may install it. Where it or its database cannot be reached this is skipped, and
says why; a known vulnerability ends it with exit code 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SECONDS = 180


def skipped(why: str) -> int:
    """Say why nothing was looked up."""
    sys.stdout.write(f"audit skipped: {why}\n")
    return 0


def audit(requirements: Path, folder: Path) -> int:
    """Install pip-audit into a folder of its own, run it, and return the exit code."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    quiet = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "pip-audit"]
    if subprocess.run(quiet, capture_output=True, check=False, timeout=SECONDS).returncode:
        return skipped("pip-audit cannot be installed here")
    # A local version such as 2.13.0+cpu is in no database; the requirements name none.
    words = [str(python), "-m", "pip_audit", "-r", str(requirements), "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
    try:
        entries = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return skipped(f"no database of vulnerabilities answers ({last[:120]})")
    known = [entry for entry in entries if "skip_reason" not in entry]
    if not known:
        return skipped(f"no database of vulnerabilities knows any of the {len(entries)} packages; is this offline?")
    for entry in known:
        for vulnerability in entry["vulns"]:
            cure = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            sys.stdout.write(f"{entry['name']} {entry['version']}: {vulnerability['id']}, mended in {cure}\n")
    bad = sum(bool(entry["vulns"]) for entry in known)
    sys.stdout.write(f"audited {len(known)} of {len(entries)} packages: {bad} with known vulnerabilities\n")
    return 1 if bad else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        try:
            code = audit(Path(sys.argv[1]), Path(place) / "venv")
        except subprocess.TimeoutExpired:
            code = skipped(f"no answer within {SECONDS} s")
    sys.exit(code)
