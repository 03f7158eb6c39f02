from __future__ import annotations

import os
import subprocess
import sys

import pytest

from solov2_edge.runtime.openmp import SPINS, VARIABLES, short_waits

LOAD = "import os; from solov2_edge.runtime.ncnn_network import find_ncnn; find_ncnn(); assert not {} & set(os.environ)"


def test_ncnn_is_loaded_with_short_waits_and_the_environment_left_alone() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["OMP_DISPLAY_ENV"] = "verbose"
    words = [sys.executable, "-c", LOAD.format(set(VARIABLES))]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    # Other systems' ncnn brings another OpenMP, which knows no such variable.
    assert sys.platform != "linux" or f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_decided_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in VARIABLES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "active")
    with short_waits():
        assert [each for each in VARIABLES if each in os.environ] == [name]
    assert os.environ[name] == "active"


def test_it_ends_where_loading_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in VARIABLES:
        monkeypatch.delenv(each, raising=False)
    with pytest.raises(ImportError), short_waits():
        raise ImportError
    assert not set(VARIABLES) & set(os.environ)
