from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from solov2_edge.demos import serve, serve_viewer
from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.demos.serve import MOST_VIEWERS, ServeView
from solov2_edge.demos.serve_messages import MESSAGE_BYTES
from solov2_edge.demos.serve_pictures import LONGEST
from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.source import Frame

SECONDS = 30  # nothing here takes one; a crowded machine may
NAMES = ("nut", "bolt")
TOKEN = "a-token-that-nobody-will-guess"


WATCHING = b"\x81\x92\0\0\0\0" + b'{"watching": true}'  # masked with zeros


class Counted(Shown):
    """Counts how often an overlay was asked for."""

    asked = 0

    @property
    def overlay(self) -> NDArray[np.uint8]:
        Counted.asked += 1
        return Shown.overlay.__get__(self)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(serve_viewer, "HEARTBEAT", 0.1)
    Counted.asked = 0
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("solov2-edge ")]
    assert not left


@pytest.fixture
def controls() -> Controls:
    return Controls(NAMES)


@pytest.fixture
def view(controls: Controls) -> Iterator[ServeView]:
    with ServeView("127.0.0.1", 0, controls, title="a test") as view:
        yield view


def shown(index: int, controls: Controls, height: int = 48, width: int = 64, *, noise: bool = False) -> Shown:
    """A frame whose grey tells its number, with two instances in it."""
    image = np.full((height, width, 3), index % 256, np.uint8)
    if noise:
        image = np.random.default_rng(index).integers(0, 256, image.shape, np.uint8)
    masks = np.zeros((2, height, width), np.bool_)
    masks[0, :10, :10] = masks[1, 20:30, 20:30] = True
    found = Instances.from_masks(masks, [0.9, 0.6], [0, 1], NAMES)
    return Counted(
        Frame(image, index, time.perf_counter()), found, np.array([1, 2]), {}, 12.5, Statistics(frames=index + 1),
        controls.settings,
    )  # fmt: skip


def get(view: ServeView, path: str = "/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=SECONDS)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


@contextmanager
def look(view: ServeView, *, watching: bool = True, **more: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{view.port}/live", max_size=None, close_timeout=1, **more) as page:
        if watching:
            page.send('{"watching": true}')
        yield page


def hear(page: ClientConnection, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the next message of this kind."""
    until = time.monotonic() + SECONDS
    while True:
        message = page.recv(timeout=until - time.monotonic())
        if isinstance(message, str) and wanted(said := json.loads(message)):
            return dict(said)


def handshake(view: ServeView) -> bytes:
    """Return what opens a WebSocket, for a client that does nothing by itself."""
    lines = (
        "GET /live HTTP/1.1", f"Host: 127.0.0.1:{view.port}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def see(page: ClientConnection) -> tuple[int, NDArray[np.uint8]]:
    """Return the number of the next picture and the picture."""
    number = int(hear(page, lambda said: said["kind"] == "state" and said["picture"])["number"])
    data = page.recv(timeout=SECONDS)
    assert isinstance(data, bytes)
    return number, np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_page_and_its_files(view: ServeView) -> None:
    assert view.url == f"http://localhost:{view.port}/"
    for path, kind, word in (
        ("/", "text/html; charset=utf-8", b"<canvas"),
        ("/?x=1", "text/html; charset=utf-8", b"<canvas"),
        ("/live.js", "text/javascript; charset=utf-8", b"WebSocket"),
        ("/panel.js", "text/javascript; charset=utf-8", b"export"),
        ("/live.css", "text/css; charset=utf-8", b"prefers-color-scheme"),
        ("/icon.svg", "image/svg+xml", b"<svg"),
    ):
        status, headers, body = get(view, path)
        assert (status, headers["content-type"]) == (200, kind)
        assert word in body
        assert headers["content-length"] == str(len(body))
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "path", ["/x", "//", "/../serve.py", "/%2e%2e/serve.py", "/live_page/index.html", "/live.js/", "//["]
)
def test_there_is_nothing_else(view: ServeView, path: str) -> None:
    status, _, body = get(view, path)
    assert status == 404
    assert b"live view is at /" in body


def test_the_socket_does_not_answer_plain_requests(view: ServeView) -> None:
    assert get(view, "/live")[0] == 426


def test_other_names_and_other_pages_are_refused(view: ServeView) -> None:
    assert get(view, "/", Host="evil.example")[0] == 421
    assert get(view, "/", Host=f"localhost:{view.port}")[0] == 200
    assert get(view, "/snapshot.png", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ):
        with pytest.raises(InvalidStatus) as caught, look(view, additional_headers=headers):
            pass
        assert caught.value.response.status_code == status
    with look(view, origin=f"http://127.0.0.1:{view.port}") as page:
        assert hear(page, lambda said: said["kind"] == "hello")["classes"] == list(NAMES)


def test_elsewhere_everything_needs_the_token(controls: Controls) -> None:
    with ServeView("0.0.0.0", 0, controls) as view:
        assert view.url.endswith(f":{view.port}/?token={view.token}")
        for path in ("/", "/live.js", "/snapshot.png", "/?token=no", "/live"):
            assert get(view, path)[0] == 401
        with pytest.raises(InvalidStatus, match="401"), look(view):
            pass
        status, headers, _ = get(view, f"/?token={view.token}")
        assert status == 200
        cookie = headers["set-cookie"].partition(";")[0]
        assert "HttpOnly" in headers["set-cookie"]
        assert get(view, "/live.js", Cookie=cookie)[0] == 200
        assert get(view, "/live.js", Authorization=f"Bearer {view.token}")[0] == 200
        with look(view, additional_headers={"Cookie": cookie}) as page:
            hear(page, lambda said: said["kind"] == "hello")


def test_a_token_may_be_given(controls: Controls) -> None:
    with ServeView("127.0.0.1", 0, controls, TOKEN) as view:
        assert view.url == f"http://localhost:{view.port}/?token={TOKEN}"
        assert get(view)[0] == 401
        assert get(view, f"/?token={TOKEN}")[0] == 200


def test_a_page_sees_the_frames_and_the_figures(view: ServeView, controls: Controls) -> None:
    with look(view) as page:
        assert hear(page, lambda said: said["kind"] == "hello")["title"] == "a test"
        assert hear(page, lambda said: said["kind"] == "state")["number"] == 0
        for index in (40, 200):
            view.show(shown(index, controls))
            number, picture = see(page)
            assert picture.shape == (48, 64, 3)
            assert abs(int(picture[-1, -1, 0]) - index) <= 3
            page.send(json.dumps({"seen": number}))
        said = hear(page, lambda said: said["kind"] == "state")  # a beat, while no frame comes
        assert not said["picture"]
        assert said["number"] == 2
        assert said["counts"] == {"nut": 1, "bolt": 1}
        assert said["instances"] == 2
        assert said["latency"] == 12.5
        assert said["statistics"]["frames"] == 201


def test_what_the_source_says_between_frames_is_told(view: ServeView) -> None:
    with look(view) as page:
        view.tick(Statistics(state="reopening", message="no answer"))
        said = hear(page, lambda said: said["kind"] == "state" and said["statistics"]["state"] == "reopening")
        assert said["statistics"]["message"] == "no answer"


def test_nothing_is_drawn_unless_somebody_looks(view: ServeView, controls: Controls) -> None:
    for index in range(5):
        view.show(shown(index, controls))
    with look(view, watching=False) as page:  # a tab in the background
        hear(page, lambda said: said["kind"] == "state" and said["number"] > 0)
        view.show(shown(5, controls))
        hear(page, lambda said: said["kind"] == "state" and said["age"] > 0.2)
        assert Counted.asked == 0
        page.send('{"watching": true}')
        see(page)
        assert Counted.asked == 1


def test_several_pages_share_one_picture(view: ServeView, controls: Controls) -> None:
    with look(view) as first, look(view) as second, look(view) as third:
        for index in range(4):
            view.show(shown(index, controls))
            pictures = []
            for page in (first, second, third):
                number, picture = see(page)
                assert number == index + 1
                pictures.append(picture)
                page.send(json.dumps({"seen": number}))
            assert all((picture == pictures[0]).all() for picture in pictures)
    assert Counted.asked == 4


def test_a_large_frame_is_streamed_smaller_and_saved_whole(view: ServeView, controls: Controls) -> None:
    with look(view) as page:
        view.show(shown(7, controls, 60, 4 * LONGEST))
        _, picture = see(page)
        assert picture.shape == (15, LONGEST, 3)
    status, headers, data = get(view, "/snapshot.png")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert headers["content-disposition"] == 'attachment; filename="frame-000007.png"'
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(np.asarray(whole), shown(7, controls, 60, 4 * LONGEST).overlay)


def test_a_snapshot_is_taken_as_slowly_as_the_network_is(view: ServeView, controls: Controls) -> None:
    view.show(shown(1, controls, 1440, 1920, noise=True))  # more than the system keeps for a reader
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.settimeout(SECONDS)
        slow.connect(("127.0.0.1", view.port))
        slow.sendall(b"GET /snapshot.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data, pauses = b"", 10
        while more := slow.recv(1 << 16):
            data, pauses = data + more, pauses - 1
            time.sleep(0.2 if pauses > 0 else 0)
    head, _, body = data.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert len(body) > 8_000_000


def test_there_is_no_snapshot_before_the_first_frame(view: ServeView) -> None:
    status, _, body = get(view, "/snapshot.png")
    assert status == 503
    assert b"no frame yet" in body


def test_a_slow_page_gets_fewer_frames_and_holds_nobody_up(view: ServeView, controls: Controls) -> None:
    with look(view) as slow, look(view) as quick:
        for index in range(20):
            view.show(shown(index, controls))
            number, _ = see(quick)
            assert number == index + 1
            quick.send(json.dumps({"seen": number}))
        got = [see(slow)[0], see(slow)[0]]  # two under way, and no more until it has drawn them
        said = hear(slow, lambda said: said["kind"] == "state")
        assert not said["picture"]
        slow.send(json.dumps({"seen": got[-1]}))
        assert see(slow)[0] == 20  # the newest, not the third
    assert got[0] < got[1] < 20


def test_a_page_that_reads_nothing_is_dropped_and_holds_nobody_up(
    controls: Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PING_SECONDS", 0.1)
    monkeypatch.setattr(serve, "PONG_SECONDS", 0.2)
    with ServeView("127.0.0.1", 0, controls) as view, socket.create_connection(("127.0.0.1", view.port)) as dead:
        dead.sendall(handshake(view) + WATCHING)  # then it never reads again
        until(lambda: view.viewers == 1)
        with look(view) as page:
            for index in range(3):
                view.show(shown(index, controls, 960, 1280, noise=True))
                number, _ = see(page)
                page.send(json.dumps({"seen": number}))
            until(lambda: view.viewers == 1)
        until(lambda: view.viewers == 0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x" * (MESSAGE_BYTES + 1), 1009),  # RFC 6455, section 7.4.1: too big
        ("[]", 1008),  # policy
        ('{"set": {"recording": true}}', 1008),
        (b"\0" * 10, 1008),
    ],
)
def test_who_says_what_no_page_says_is_dropped(view: ServeView, text: str | bytes, code: int) -> None:
    with look(view) as page:
        page.send(text)
        with pytest.raises(ConnectionClosed) as caught:
            hear(page, lambda said: False)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
    assert get(view)[0] == 200


def test_a_request_that_goes_on_and_on_is_cut_off(view: ServeView) -> None:
    with socket.create_connection(("127.0.0.1", view.port), timeout=SECONDS) as long:
        long.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        answer = b""
        try:
            while data := long.recv(1 << 16):
                answer += data
        except ConnectionResetError:
            pass
        assert b" 200 " not in answer[:20]
    assert get(view)[0] == 200


def test_settings_change_for_every_page(view: ServeView, controls: Controls) -> None:
    with look(view) as first, look(view) as second:
        first.send('{"set": {"score_threshold": 0.75, "classes": ["bolt"], "alpha": 0.5, "paused": true}}')
        for page in (first, second):
            said = hear(page, lambda said: said["kind"] == "state" and said["settings"]["paused"])
            assert said["settings"]["score_threshold"] == 0.75
            assert said["settings"]["classes"] == ["bolt"]
    assert controls.settings.classes == frozenset({"bolt"})
    assert controls.settings.alpha == 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ('{"score_threshold": 2}', "between 0 and 1"),
        ('{"alpha": NaN}', "between 0 and 1"),
        ('{"alpha": "0"}', "between 0 and 1"),
        ('{"paused": null}', "True or False"),
        ('{"classes": ["nuts"]}', "did you mean 'nut'"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_a_sentence(
    view: ServeView, controls: Controls, change: str, sentence: str
) -> None:
    before = controls.settings
    with look(view) as page:
        page.send(f'{{"set": {change}}}')
        assert sentence in hear(page, lambda said: said["kind"] == "refused")["message"]
        assert controls.settings is before
        page.send('{"set": {"alpha": 0.1}}')
        hear(page, lambda said: said["kind"] == "state" and said["settings"]["alpha"] == 0.1)


def test_pages_beyond_the_most_are_turned_away(view: ServeView) -> None:
    from contextlib import ExitStack

    with ExitStack() as pages:
        for _ in range(MOST_VIEWERS):
            pages.enter_context(look(view, watching=False))
        until(lambda: view.viewers == MOST_VIEWERS)
        with pytest.raises(InvalidStatus, match="503"), look(view):
            pass
    until(lambda: view.viewers == 0)
    with look(view):
        pass


def test_showing_takes_no_time_with_pages_that_look(view: ServeView, controls: Controls) -> None:
    frames = [shown(index, controls, 960, 1280) for index in range(100)]
    with look(view), look(view):
        until(lambda: view.viewers == 2)
        start = time.thread_time()
        for frame in frames:
            view.show(frame)
        assert time.thread_time() - start < 0.5  # of processor time; drawing one alone takes 10 ms
    assert Counted.asked < len(frames)


def test_the_end_is_told_and_leaves_nothing(controls: Controls) -> None:
    view = ServeView("127.0.0.1", 0, controls)
    with look(view) as page:
        view.show(shown(0, controls, 960, 1280, noise=True))
        view.close()
        with pytest.raises(ConnectionClosed) as caught:
            hear(page, lambda said: False)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001  # going away
    with pytest.raises(ConnectionRefusedError):
        get(view)
    view.close()
    view.show(shown(1, controls))  # nobody is there to see it
    with ServeView("127.0.0.1", view.port, controls):  # the port is free again
        pass


def test_the_end_does_not_wait_for_pages_that_hang(controls: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAKE_SECONDS", "PING_SECONDS"):
        monkeypatch.setattr(serve, name, 3600.0)
    with ServeView("127.0.0.1", 0, controls) as view:
        view.show(shown(0, controls, 960, 1280, noise=True))
        silent, stuck, dead = (socket.create_connection(("127.0.0.1", view.port)) for _ in range(3))
        stuck.sendall(b"GET /snapshot.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(10)  # and no more
        dead.sendall(handshake(view) + WATCHING)
        until(lambda: view.viewers == 1)
        view.show(shown(1, controls, 960, 1280, noise=True))
    for client in (silent, stuck, dead):
        client.close()


def test_a_port_that_is_taken_is_said(view: ServeView, controls: Controls) -> None:
    with pytest.raises(InputError, match=f"port {view.port} of 127.0.0.1 is taken"):
        ServeView("127.0.0.1", view.port, controls)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("127.0.0.1", 65536, "0 to 65535"),
        ("127.0.0.1", -1, "0 to 65535"),
        ("192.0.2.1", 0, "no address of this machine"),
        ("no-such-host.invalid", 0, "cannot be found"),
        ("a" * 70 + ".invalid", 0, "cannot be found"),
    ],
)
def test_an_address_that_cannot_be_had_is_said(controls: Controls, host: str, port: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ServeView(host, port, controls)


def test_a_token_that_is_refused_gives_the_port_back(controls: Controls, view: ServeView) -> None:
    port = view.port
    view.close()
    with pytest.raises(InputError, match="16 to 128"):
        ServeView("127.0.0.1", port, controls, "short")
    with ServeView("127.0.0.1", port, controls):
        pass


def test_a_server_that_fails_is_noticed(controls: Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(serve, "serve", broken)
    with pytest.raises(SolovEdgeError, match="no more memory"):
        ServeView("127.0.0.1", 0, controls)
