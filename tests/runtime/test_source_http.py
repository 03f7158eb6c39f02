"""Motion JPEG from a real server: one that cuts frames, stalls, dies and comes back, or asks for a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.runtime import source_connection
from solov2_edge.runtime.opening_source import open_source
from solov2_edge.runtime.source import Frame, Mode, Source
from solov2_edge.runtime.source_http import without_secrets

pytestmark = pytest.mark.usefixtures("nothing_left")


def jpeg(number: int) -> bytes:
    """A frame that can be told from its brightness; see :func:`number_of`."""
    good, data = cv2.imencode(".jpg", np.full((24, 32, 3), 10 * number, np.uint8))
    assert good
    return data.tobytes()


def number_of(image: np.ndarray[Any, Any]) -> int:
    return round(float(image.mean()) / 10)


@dataclass
class Camera:
    """What a server does for each client: a list of actions, bytes to send as a part or a function to call."""

    actions: list[bytes | Callable[[], object]]
    boundary: str = "frame"
    declared: str = "frame"
    lengths: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    challenge: str = ""
    admits: Callable[[str], bool] = lambda given: True
    stop: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                if not camera.admits(self.headers.get("Authorization", "")):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", camera.challenge)
                    self.end_headers()
                    return
                self.send_response(camera.status)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={camera.declared}")
                self.end_headers()
                with contextlib.suppress(OSError):  # the client went away
                    for action in camera.actions:
                        if camera.stop.is_set():
                            return
                        if not isinstance(action, bytes):
                            action()
                            continue
                        length = f"Content-Length: {len(action)}\r\n" if camera.lengths else ""
                        head = f"--{camera.boundary}\r\nContent-Type: image/jpeg\r\n{length}\r\n"
                        self.wfile.write(head.encode() + action + b"\r\n")

        return Handler


class Server:
    """Shows a camera at one address; can be killed and started again."""

    def __init__(self, camera: Camera) -> None:
        self.port = 0
        self.start(camera)

    def start(self, camera: Camera) -> None:
        self.camera = camera
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), camera.handler())
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def kill(self) -> None:
        self.camera.stop.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def servers(nothing_left: None) -> Iterator[list[Server]]:
    """Those that were started, killed in the end."""
    running: list[Server] = []
    yield running
    for server in running:
        server.kill()


@pytest.fixture
def serve(servers: list[Server]) -> Callable[[Camera], str]:
    """Start a server; returns its address."""

    def start(camera: Camera) -> str:
        servers.append(Server(camera))
        return f"http://127.0.0.1:{servers[-1].port}/video"

    return start


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def numbers(source: Source) -> list[int]:
    return [number_of(frame.image) for frame in source]


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize(("declared", "sent"), [("frame", "frame"), ("--frame", "frame"), ('"a b"', "a b")])
def test_every_frame_in_order(serve: Callable[..., str], lengths: bool, declared: str, sent: str) -> None:
    url = serve(Camera([jpeg(n) for n in range(1, 6)], sent, declared, lengths))
    with open_source(url, reopen=0) as source:
        assert source.mode is Mode.LIVE
        assert numbers(source) == [1, 2, 3, 4, 5][: 5 if lengths else 4]  # without one, the last never ends
        assert source.status().state == "ended"
        assert "ended" in source.status().message


def test_corrupt_frames_in_the_middle_are_skipped_and_counted(serve: Callable[..., str]) -> None:
    cut = jpeg(9)[:-30]
    url = serve(Camera([jpeg(1), cut, jpeg(2), b"\xff\xd8\xff no picture", b"", jpeg(3)]))
    with open_source(url, reopen=0) as source:
        assert [(frame.index, number_of(frame.image)) for frame in source] == [(0, 1), (2, 2), (5, 3)]
        assert source.status().corrupt == 3


def test_a_server_that_dies_and_comes_back(
    servers: list[Server], serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_connection, "FIRST_PAUSE_SECONDS", 0.02)
    camera = Camera([jpeg(1), jpeg(2)])
    camera.actions.append(camera.stop.wait)
    frames: list[Frame] = []
    with open_source(serve(camera)) as source:
        reader = threading.Thread(target=lambda: frames.extend(source), name="solov2-edge reader")
        reader.start()
        until(lambda: len(frames) == 2)
        assert source.status().state == "open"
        servers[0].kill()
        until(lambda: "cannot be reached" in source.status().message)
        assert source.status().state == "reopening"
        camera = Camera([jpeg(3), jpeg(4)])
        camera.actions.append(camera.stop.wait)
        servers[0].start(camera)
        until(lambda: len(frames) == 4)
        assert (source.status().state, source.status().reopened) == ("open", 1)
    reader.join(10)
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_server_that_stalls_is_lost_after_the_time_out(serve: Callable[..., str]) -> None:
    camera = Camera([jpeg(1)])
    camera.actions += [camera.stop.wait, jpeg(2)]
    with open_source(serve(camera), reopen=0, timeout=1) as source:
        assert numbers(source) == [1]
        assert source.status().message == "it stopped sending"


def test_a_frame_cut_by_the_end_is_the_end(serve: Callable[..., str]) -> None:
    class Longer(bytes):
        def __len__(self) -> int:
            return super().__len__() + 100

    with open_source(serve(Camera([jpeg(1), Longer(jpeg(2))])), reopen=0) as source:
        assert numbers(source) == [1]
        assert "ended" in source.status().message


def test_closing_wakes_a_read_that_hangs(serve: Callable[..., str]) -> None:
    camera = Camera([jpeg(1)])
    camera.actions.append(camera.stop.wait)
    source = open_source(serve(camera), timeout=600)
    got: list[Frame] = []
    reader = threading.Thread(target=lambda: got.extend(source), name="solov2-edge reader")
    reader.start()
    until(lambda: len(got) == 1)
    source.close()
    reader.join(10)
    assert not reader.is_alive()
    assert source.status().state == "closed"


def basic(given: str) -> bool:
    return given == "Basic " + base64.b64encode(b"a@b:s3:cret").decode()


def digest(given: str) -> bool:
    """RFC 2069, the oldest form, which cameras still speak."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    wanted = md5(f"{md5('a@b:camera:s3:cret')}:once:{md5('GET:/video')}")
    return given.startswith('Digest username="a@b"') and f'response="{wanted}"' in given


@pytest.mark.parametrize(
    ("challenge", "admits"),
    [('Basic realm="camera"', basic), ('Digest realm="camera", nonce="once"', digest)],
)
def test_a_password(serve: Callable[..., str], challenge: str, admits: Callable[[str], bool]) -> None:
    url = serve(Camera([jpeg(1)], challenge=challenge, admits=admits))
    with open_source(url.replace("//", "//a%40b:s3%3Acret@"), reopen=0) as source:
        assert "s3" not in source.description
        assert numbers(source) == [1]
    for wrong in ("a%40b:wrong@", ""):
        with pytest.raises(InputError, match=r"answers 401 .*name and password") as caught:
            open_source(url.replace("//", f"//{wrong}"))
        assert "wrong" not in str(caught.value)


def test_what_does_not_answer_or_refuses_is_an_error(serve: Callable[..., str], servers: list[Server]) -> None:
    url = serve(Camera([], status=404))
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:\d+/video answers 404 .*check the address$"):
        open_source(url)
    servers[0].kill()
    with pytest.raises(InputError, match=r"cannot be reached .*check the address"):
        open_source(url)
    servers[0].start(Camera([]))
    with pytest.raises(InputError, match="no host given"):
        open_source("http://")


def test_one_that_sends_no_frame_is_an_error(serve: Callable[..., str]) -> None:
    with open_source(serve(Camera([b"none", b"none"]))) as source:
        with pytest.raises(InputError, match=r"gives no frame \(it ended\); open the address in a browser"):
            numbers(source)
        assert source.status().corrupt == 2


def test_an_announced_size_beyond_reason_is_refused(serve: Callable[..., str]) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 40

    with open_source(serve(Camera([jpeg(1), Huge(b"x")])), reopen=0) as source:
        assert numbers(source) == [1]
        assert "1,099,511,627,776 bytes" in source.status().message


def test_a_video_file_behind_an_address_is_gone_through_frame_by_frame(tmp_path: Path, nothing_left: None) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for number in range(1, 6):
        writer.write(np.full((24, 32, 3), 10 * number, np.uint8))
    writer.release()

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with open_source(f"{address}/clip.avi") as source:
            assert (source.mode, source.fps) == (Mode.VIDEO, 10)
            assert numbers(source) == [1, 2, 3, 4, 5]
            assert source.status().state == "ended"
        (tmp_path / "page.html").write_text("<p>none</p>")
        with pytest.raises(InputError, match="gives no video"):
            open_source(f"{address}/page.html")
        server.shutdown()
        thread.join()


def test_addresses_are_shown_without_secrets() -> None:
    assert without_secrets("http://ann:secret@camera:8080/video?pw=secret#x") == "http://camera:8080/video?..."
    assert without_secrets("rtsp://camera/1") == "rtsp://camera/1"
