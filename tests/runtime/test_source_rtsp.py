"""RTSP from a real server on loopback: GStreamer's, run by a Python that has its bindings."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import source_connection
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Frame, Mode

pytestmark = pytest.mark.usefixtures("nothing_left")
PROBE = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')"
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good"


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that can run the server: the system's own, as a rule."""
    for candidate in ("/usr/bin/python3", sys.executable):
        if (
            Path(candidate).exists()
            and subprocess.run([candidate, "-c", PROBE], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    pytest.skip(f"no RTSP server is installed: apt-get install {PACKAGES}")


class Server:
    """Serves at one port; can be killed and started again."""

    def __init__(self, python: str) -> None:
        self.python = python
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen([self.python, str(script), str(self.port)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"serving\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(nothing_left: None, python: str) -> Iterator[Server]:
    server = Server(python)
    yield server
    server.kill()


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for at most twenty seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_camera_that_dies_and_comes_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_connection, "FIRST_PAUSE_SECONDS", 0.02)
    frames: list[Frame] = []
    with open_source(f"rtsp://127.0.0.1:{server.port}/jpeg", timeout=10) as source:
        assert (source.mode, source.fps) == (Mode.LIVE, 30)
        reader = threading.Thread(target=lambda: frames.extend(source), name="solov2-edge reader")
        reader.start()
        until(lambda: len(frames) >= 5)
        server.kill()
        until(lambda: source.status().state == "reopening")
        assert "ended, or gave no frame" in source.status().message or "gives no video" in source.status().message
        seen = len(frames)
        server.start()
        until(lambda: len(frames) >= seen + 5)
        assert (source.status().state, source.status().reopened) == ("open", 1)
    reader.join(20)
    assert not reader.is_alive()
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert {frame.image.shape for frame in frames} == {(120, 160, 3)}
    assert {int(frame.image.max()) > 200 for frame in frames} == {True}, "a white ball"


def test_what_is_no_stream_is_an_error(server: Server) -> None:
    with pytest.raises(InputError, match=r"rtsp://127\.0\.0\.1:\d+/none\?\.\.\. gives no video; check the address"):
        open_source(f"rtsp://ann:secret@127.0.0.1:{server.port}/none?pw=secret", timeout=10)
    address = f"rtsp://127.0.0.1:{server.port}/jpeg"
    server.kill()
    with pytest.raises(InputError, match="gives no video"):
        open_source(address, timeout=10)
    server.start()


def test_a_server_that_never_answers_is_given_up_after_the_time_out(nothing_left: None) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(InputError, match="gives no video"):
            open_source(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/", timeout=0.3)
