"""No file of the checkout holds a key, a password or a token."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

# What private keys and the tokens of common services look like; split here, so that this file has none.
PATTERNS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE " + r"KEY(?: BLOCK)?-----",
    "a key of a cloud": r"\b(?:AKIA|ASIA)" + r"[0-9A-Z]{16}\b",
    "a token of GitHub": r"\b(?:gh[pousr]|github_pat)" + r"_[0-9A-Za-z_]{30,}",
    "a token of GitLab": r"\bglpat-" + r"[0-9A-Za-z_-]{20}",
    "a token of a package index": r"\bpypi-" + r"[0-9A-Za-z_-]{50,}",
    "a token of Hugging Face": r"\bhf_" + r"[0-9A-Za-z]{30,}",
    "a token of Slack": r"\bxox[abprs]-" + r"[0-9A-Za-z-]{10,}",
    "a key of an API": r"\b(?:sk|pk|rk)[-_](?:live|ant|proj)[-_]" + r"[0-9A-Za-z_-]{16,}",
    "a key of Google's": r"\bAIza" + r"[0-9A-Za-z_-]{35}",
    "a JSON web token": r"\beyJ[0-9A-Za-z_-]{15,}\." + r"eyJ[0-9A-Za-z_-]{15,}\.",
    "a password in an address": r"\b(?:https?|ftp|ssh)://[^\s/:@'\"{}<>]+:"
    r"(?!secret|password)[^\s/@'\"{}<>]{6,}@",
}
LARGEST = 2 << 20  # bytes of a file that is looked into


def tracked(checkout: Path) -> list[Path]:
    """Return the files of the checkout: those under version control, or all where there is none."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        return [checkout / name.decode() for name in done.stdout.split(b"\0") if name]
    hidden = (path for path in checkout.rglob("*") if path.is_file())
    return [path for path in hidden if not any(part.startswith(".venv") for part in path.parts)]


def secrets(text: str) -> list[str]:
    """Return what a text holds, in words."""
    return [what for what, pattern in PATTERNS.items() if re.search(pattern, text)]


def test_no_file_holds_a_secret(checkout: Path) -> None:
    found = {}
    files = [path for path in tracked(checkout) if path.is_file() and path.stat().st_size <= LARGEST]
    assert len(files) > 300
    for path in files:
        data = path.read_bytes()
        if b"\0" not in data and (what := secrets(data.decode("latin-1"))):
            found[str(path.relative_to(checkout))] = what
    assert found == {}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a private key", "-----BEGIN RSA PRIVATE " + "KEY-----"),
        ("a key of a cloud", "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("a token of GitHub", "ghp_" + "a1" * 18),
        ("a token of a package index", "pypi-" + "Ag" * 30),
        ("a token of Hugging Face", "hf_" + "aB" * 17),
        ("a password in an address", "https://user:" + "hunter22@example.org/"),
    ],
)
def test_what_is_looked_for_is_found(what: str, text: str) -> None:
    assert what in secrets(f"x = '{text}'\n")
