from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from solov2_edge.converters import verify_apple
from solov2_edge.converters.mil_interpreter import load as interpret
from solov2_edge.converters.verify_apple import compare_units
from solov2_edge.errors import InputError


@pytest.fixture(scope="module")
def package(coreml_export):
    return coreml_export("fp32").path


@pytest.fixture
def apple(monkeypatch):
    """Stand in for Apple's runtime: the interpreter, with the kernels off by an amount per compute unit."""
    errors = {"cpu_only": 2e-6, "cpu_and_gpu": 1e-3, "cpu_and_ne": 2e-3, "all": 0.5}

    @contextmanager
    def load(path, providers):
        with interpret(path) as segment:

            def raw(frame):
                found = segment.raw(frame)
                return replace(found, kernels=found.kernels + np.float32(errors[providers] * np.ptp(found.kernels)))

            yield SimpleNamespace(raw=raw, providers=(f"a {providers} plan",))

    monkeypatch.setattr(verify_apple, "load", load)
    return errors


def test_each_unit_is_held_to_what_it_computes_in(package, apple, frame):
    findings = compare_units(package, {"noise": frame})
    assert len(findings) == 4 * 3
    kernels = {f.quantity.removeprefix("kernels on "): f for f in findings if f.quantity.startswith("kernels")}
    assert {unit: f.passed for unit, f in kernels.items()} == {
        "cpu_only": True,
        "cpu_and_gpu": True,
        "cpu_and_ne": True,
        "all": False,
    }
    assert kernels["cpu_only"].bound == 1e-4
    assert kernels["cpu_and_ne"].bound == 1e-2
    for unit, finding in kernels.items():
        assert finding.value == pytest.approx(apple[unit], rel=0.05)
        assert finding.note == f"runs on a {unit} plan"


def test_only_the_units_asked_for(package, apple, frame):
    apple["cpu_only"] = 1e-3
    findings = compare_units(package, {"a": frame, "b": frame[::-1]}, units=["cpu_only"])
    assert [f.picture for f in findings] == ["a"] * 3 + ["b"] * 3
    assert [f.passed for f in findings] == [True, False, True] * 2


def test_no_frame_is_refused(package):
    with pytest.raises(InputError, match="at least one frame"):
        compare_units(package, {})


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has Core ML")
def test_off_a_mac_it_says_so(package, frame):
    with pytest.raises(InputError, match="Macs and iPhones only"):
        compare_units(package, {"noise": frame})


@pytest.mark.macos
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_apples_runtime(coreml_export, frame, precision):
    findings = compare_units(coreml_export(precision).path, {"noise": frame})
    assert [f for f in findings if not f.passed] == []
