from __future__ import annotations

import os
import subprocess
import sys

import pytest

from solov2_edge.runtime.native_stderr import captured_stderr


def say(text: str) -> None:
    os.write(2, text.encode())


def test_chatter_is_kept_and_the_rest_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    say("before\n")
    with captured_stderr() as said:
        say("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        say("I0000 00:00:1 1 environment.cc:532] Selected adapter\n")
        print("another thread's word", file=sys.stderr)
        say("ERROR: [a.cc:1]\n└ and why\n\n")
        assert said() == ""
    say("after\n")
    assert "XNNPACK" in said()
    assert "└ and why" in said()
    assert capfd.readouterr() == ("", "before\nanother thread's word\nafter\n")


def test_the_descriptor_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        say("ERROR: no adapter\n")
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"), captured_stderr() as said:
        fails()
    assert said() == "ERROR: no adapter\n"
    say("after\n")
    assert capfd.readouterr().err == "after\n"


def test_one_inside_another(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as outer:
        with captured_stderr() as inner:
            say("INFO: first\nforeign\n")
        say("INFO: second\n")
    assert (inner(), outer()) == ("INFO: first\nforeign\n", "foreign\nINFO: second\n")
    assert capfd.readouterr().err == "foreign\n"


def test_without_a_console_nothing_is_caught() -> None:
    code = (
        "import os, sys\n"
        "from solov2_edge.runtime.native_stderr import captured_stderr\n"
        "sys.stderr = None\n"
        "os.close(2)\n"
        "with captured_stderr() as said:\n"
        "    pass\n"
        "print(repr(said()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "''\n"
