"""Every parser refuses what is bad with ``InputError`` and nothing else: changed good inputs, and all that was found.

``fuzz/targets.py`` lists the parsers; ``make fuzz`` runs them under atheris for longer. Here hypothesis changes their
seeds, the same way every time, for a second or so each.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solov2_edge.errors import InputError

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
NAMES = ("manifest", "pickle", "checkpoint", "rle", "coco", "labelme", "stream", "mil", "tflite", "onnx", "picture")
SLOW = ("checkpoint", "mil")  # milliseconds an input
FOUND = [pytest.param(path, id=f"{path.parent.name} {path.name}") for path in sorted((FUZZ / "found").glob("*/*"))]
INTERESTING = (b"\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8, b"-1", b"1e999", b"[" * 999)


@lru_cache(maxsize=1)
def targets() -> ModuleType:
    """The module ``fuzz/targets.py``."""
    spec = importlib.util.spec_from_file_location("solov2_edge_fuzz_targets", FUZZ / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=len(NAMES))
def seeds(name: str) -> list[bytes]:
    """The good inputs of a parser."""
    found: list[bytes] = targets().TARGETS[name].seeds()
    return found


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw a few cuts, flips, insertions and repetitions at shares of the length."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("cut", "flip", "put", "set", "copy", "drop")),
                st.floats(0, 1, exclude_max=True),
                st.integers(0, 255),
                st.sampled_from(INTERESTING),
            ),
            min_size=1,
            max_size=6,
        )
    )

    def change(data: bytes) -> bytes:
        for kind, share, number, piece in steps:
            at = int(share * len(data))
            data = {
                "cut": data[:at] if number < 64 else data,
                "flip": data[:at] + bytes([(data[at : at + 1] or b"\0")[0] ^ (number or 1)]) + data[at + 1 :],
                "put": data[:at] + piece + data[at:],
                "set": data[:at] + piece + data[at + len(piece) :],
                "copy": data[:at] + data[at : at + number] * 2 + data[at + number :],
                "drop": data[:at] + data[at + number :],
            }[kind]
        return data

    return change


def test_every_parser_is_here() -> None:
    assert set(NAMES) == set(targets().TARGETS)


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_good_inputs_are_read(name: str) -> None:
    for data in seeds(name):
        with contextlib.suppress(InputError) if name in ("stream", "checkpoint") else contextlib.nullcontext():
            targets().TARGETS[name].parse(data)


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_input_is_read_or_refused(name: str) -> None:
    @settings(
        max_examples=25 if name in SLOW else 100,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(which=st.integers(0, 9), change=changes())
    def fuzz(which: int, change: Callable[[bytes], bytes]) -> None:
        good = seeds(name)
        with contextlib.suppress(InputError):
            targets().TARGETS[name].parse(change(good[which % len(good)]))

    fuzz()


@pytest.mark.torch
@pytest.mark.parametrize("path", FOUND)
def test_what_fuzzing_found_is_read_or_refused(path: Path) -> None:
    with contextlib.suppress(InputError):
        targets().TARGETS[path.parent.name].parse(path.read_bytes())
