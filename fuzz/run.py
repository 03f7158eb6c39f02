"""Fuzz one parser with atheris: ``python fuzz/run.py NAME --seconds 60``; ``make fuzz`` runs them all in turn.

An input that ends in anything but ``InputError``, or takes 20 seconds, is written to ``fuzz/found/NAME/`` and ends the
run: mend the parser and keep the file there, where ``tests/test_fuzz.py`` reads it ever after.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

MODULES = (
    *("converters.mil_package", "converters.mil_program", "converters.mil_blob", "converters.tflite_facts"),
    *("runtime.annotations", "runtime.flatbuffer", "runtime.onnx_file", "runtime.opening_source", "runtime.rle"),
    *("runtime.picture_headers", "runtime.source_http", "runtime.tflite_file", "runtime.labelme_files"),
    *("manifest", "spec", "state_files", "stored", "torch_files", "unpickle"),
)
with atheris.instrument_imports(include=["solov2_edge"]):
    for name in MODULES:
        importlib.import_module(f"solov2_edge.{name}")

from solov2_edge.errors import InputError  # noqa: E402 - after what is measured

sys.path.insert(0, str(Path(__file__).resolve().parent))
from targets import TARGETS  # noqa: E402 - found through the line above

FOUND = Path(__file__).resolve().parent / "found"
LONGEST = 1 << 17  # bytes of an input


def main() -> None:
    """Fuzz the parser that was named, from its seeds and what was found before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    target, found = TARGETS[options.target], FOUND / options.target

    def once(data: bytes) -> None:
        with contextlib.suppress(InputError):
            target.parse(data)

    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        known = [path.read_bytes() for path in sorted(found.glob("*"))]
        for number, data in enumerate([*target.seeds(), *known]):
            (Path(corpus) / f"{number:04}").write_bytes(data)
        words = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", f"-max_len={LONGEST}", "-timeout=20"]
        atheris.Setup([sys.argv[0], *words, "-rss_limit_mb=4096", f"-artifact_prefix={found}{os.sep}", corpus], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
