"""Frames from a GStreamer process through a pipe; really run where GStreamer is installed."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime.source_connection import ConnectionLostError
from solov2_edge.runtime.source_gst import LAUNCHER, GstLaunch

pytestmark = pytest.mark.usefixtures("nothing_left")
needs_gstreamer = pytest.mark.skipif(shutil.which(LAUNCHER) is None, reason=f"{LAUNCHER} is not installed")


@needs_gstreamer
@pytest.mark.parametrize(("width", "height"), [(64, 48), (321, 241), (2, 2)])
def test_frames_of_any_width(width: int, height: int) -> None:
    """Rows whose bytes are no multiple of four are padded in the pipe."""
    colour = "videotestsrc is-live=true pattern=solid-color foreground-color=0xff0A1420"
    source = GstLaunch(f"{colour} ! video/x-raw,width={width},height={height},format=BGR", width, height, 20)
    try:
        for _ in range(3):
            image = source.read()
            assert image.shape == (height, width, 3)
            assert image.dtype == np.uint8
            assert {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()} == {(0x20, 0x14, 0x0A)}
    finally:
        source.close()


@needs_gstreamer
def test_frames_differ_and_have_memory_of_their_own() -> None:
    source = GstLaunch("videotestsrc is-live=true pattern=ball ! video/x-raw,width=64,height=48", 64, 48, 20)
    images = [source.read() for _ in range(4)]
    source.close()
    for one, other in itertools.combinations(images, 2):
        assert not np.shares_memory(one, other)
    assert any(not np.array_equal(images[0], other) for other in images[1:])


@needs_gstreamer
def test_its_end_and_its_complaint_are_told() -> None:
    source = GstLaunch("videotestsrc num-buffers=1 ! video/x-raw,width=64,height=48", 64, 48, 20)
    source.read()
    with pytest.raises(ConnectionLostError, match=rf"^{LAUNCHER} ended$"):
        source.read()
    source.close()
    source = GstLaunch("nosuchelement ! video/x-raw", 64, 48, 20)
    with pytest.raises(ConnectionLostError, match=r'ended: .*no element "nosuchelement"'):
        source.read()
    source.close()


@needs_gstreamer
def test_one_that_sends_nothing_is_lost_after_the_time_out() -> None:
    source = GstLaunch("appsrc", 64, 48, 0.3)
    with pytest.raises(ConnectionLostError, match=r"^no frame for 0\.3 s"):
        source.read()
    source.close()


@needs_gstreamer
def test_interrupting_wakes_a_read() -> None:
    source = GstLaunch("appsrc", 64, 48, 600)
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(ConnectionLostError, match="ended"):
            source.read()
        ended.set()

    reader = threading.Thread(target=read, name="solov2-edge reader")
    reader.start()
    source.interrupt()
    reader.join(20)
    assert ended.is_set()
    source.close()
    source.interrupt()


def test_what_the_program_prints_is_no_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements of Jetsons write to the standard output; a program that does so stands in for them."""
    program = tmp_path / LAUNCHER
    program.write_text(
        '#!/bin/sh\necho "GST_ARGUS: Creating output stream"\n'
        'for word in "$@"; do case "$word" in fd=*) fd=${word#fd=};; esac; done\n'
        'printf "abcdefgh" >"/dev/fd/$fd"\nprintf "ijklmnop" >"/dev/fd/$fd"\necho "Error generated" >&2\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    source = GstLaunch("nvarguscamerasrc", 1, 2, 20)  # rows of three bytes and one of padding
    assert source.read().tobytes() == b"abcefg"
    assert source.read().tobytes() == b"ijkmno"
    with pytest.raises(ConnectionLostError, match="ended: Error generated"):
        source.read()
    source.close()


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be started .*apt-get install gstreamer1\.0-tools"):
        GstLaunch("videotestsrc", 64, 48, 1)
