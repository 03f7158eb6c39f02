"""The live view as a web page, for a board without a screen: ``http://localhost:8080``.

The page, its figures and its settings go over one WebSocket. The server has a thread of its own and another one that
encodes; the loop hands a frame over and goes on, whatever the pages do: a frame is encoded only if somebody looks, once
for all of them, and who is slow is shown fewer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.demos.serve_access import access_for
from solov2_edge.demos.serve_address import bind, page_address
from solov2_edge.demos.serve_files import answer, page_file
from solov2_edge.demos.serve_messages import MESSAGE_BYTES
from solov2_edge.demos.serve_pictures import Newest, snapshot
from solov2_edge.demos.serve_viewer import Viewer
from solov2_edge.errors import SolovEdgeError

__all__ = ["MOST_VIEWERS", "ServeView"]

MOST_VIEWERS = 16
# A page that has gone without a word, as a phone out of reach does, is dropped after at most the sum of both.
PING_SECONDS, PONG_SECONDS = 5.0, 10.0
TAKE_SECONDS = 60.0  # to say what is wanted and to take it: a large snapshot over a bad network
CLOSE_SECONDS = 1.0  # to agree on the end of a WebSocket, or of all of them
LOGGER = logging.getLogger(__name__)
LOGGER.addHandler(logging.NullHandler())  # what strangers send is no news for the terminal


class ServeView:
    """A view that serves a page; see :class:`~solov2_edge.demos.live_view.View`.

    Attributes:
        url: what to open in a browser, with the token if there is one.
        port: it is reached by.
        viewers: pages that are open.
        token: what a request must carry: ``?token=``, the cookie set with the page, or ``Authorization: Bearer``; "" is
            none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        controls: Controls,
        token: str | None = None,
        *,
        title: str = "live",
    ) -> None:
        """Bind, and start serving.

        Args:
            host: name or address to bind to; ``127.0.0.1`` is this machine alone, ``0.0.0.0`` everybody who reaches it.
            port: 0 is any free one.
            controls: what the page shows and changes.
            token: see :func:`~solov2_edge.demos.serve_access.access_for`; default: a new one unless on loopback.
            title: of the page, such as the source.

        Raises:
            InputError: the port is taken or not allowed, the host is not this machine's, or the token could be guessed.
        """
        self._socket = bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        try:
            self._access = access_for(host, self.port, token)
        except ValueError:
            self._socket.close()
            raise
        self.token = self._access.token
        self.url = page_address(host, self.port, self.token)
        self._controls = controls
        self._title = title
        self._statistics = Statistics()
        self.viewers = 0
        self._lock = threading.Lock()
        self._slot: Shown | None = None
        self._closed = False
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._worker = ThreadPoolExecutor(1, "solov2-edge encode")
        self._thread = threading.Thread(target=self._run, name="solov2-edge serve", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.close()
        self._check()

    def show(self, shown: Shown) -> None:
        """Hand the newest frame to the server; takes microseconds."""
        self._check()
        self._statistics = shown.statistics
        with self._lock:
            waiting, self._slot = self._slot is not None, shown
            if not waiting and not self._closed:
                self._tell(self._take)

    def tick(self, statistics: Statistics) -> None:
        """Take the figures of a moment without a frame; the pages get them with the next beat."""
        self._check()
        self._statistics = statistics

    def close(self) -> None:
        """End all connections and both threads; may be called again."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first and self._failure is None:
            self._tell(self._stop.set)
        self._thread.join()
        self._worker.shutdown()
        self._socket.close()

    def __enter__(self) -> ServeView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, what: Callable[[], None]) -> None:
        # A loop that is gone has left the reason in _failure.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    def _check(self) -> None:
        if self._failure is not None:
            raise SolovEdgeError(f"the live page's server has ended: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised in the loop's thread by _check
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._newest = Newest(self._worker)
        connections: weakref.WeakSet[ServerConnection] = weakref.WeakSet()

        class Kept(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                connections.add(self)

        server = await serve(
            self._attend,
            sock=self._socket,
            create_connection=Kept,
            process_request=self._answer,
            compression=None,  # pictures are compressed
            max_size=MESSAGE_BYTES,
            max_queue=8,
            open_timeout=TAKE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            close_timeout=TAKE_SECONDS,
            server_header=None,
            logger=LOGGER,
        )
        self._started.set()
        await self._stop.wait()
        server.close()
        ended, patience = asyncio.ensure_future(server.wait_closed()), CLOSE_SECONDS
        while not (await asyncio.wait((ended,), timeout=patience))[0]:
            patience = 0.05
            for connection in list(connections):
                connection.transport.abort()
        await self._newest.settle()

    def _take(self) -> None:
        with self._lock:
            shown, self._slot = self._slot, None
        if shown is not None:
            self._newest.put(shown)

    async def _attend(self, connection: ServerConnection) -> None:
        connection.close_timeout = CLOSE_SECONDS
        self.viewers += 1
        try:
            await Viewer(connection, self._newest, self._controls, lambda: self._statistics).run(self._title)
        finally:
            self.viewers -= 1

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        headers: dict[str, list[str]] = {}
        for name, value in request.headers.raw_items():
            headers.setdefault(name.lower(), []).append(value)
        refusal = self._access.refuse(request.path, headers)
        if refusal is not None:
            return _say(refusal.status, refusal.message)
        path = request.path.partition("?")[0]
        if path == "/live":
            return (
                None if self.viewers < MOST_VIEWERS else _say(503, f"{MOST_VIEWERS} pages look on, which is the most")
            )
        if path == "/snapshot.png":
            return await self._snapshot()
        found = page_file(path, headers["host"][0])
        if found is None:
            return _say(404, "there is no such page; the live view is at /")
        if self.token and path == "/":
            found.headers["Set-Cookie"] = self._access.set_cookie()
        return found

    async def _snapshot(self) -> Response:
        shown = self._newest.shown
        if shown is None:
            return _say(503, "there was no frame yet; try again in a moment")
        data = await self._newest.encoded(snapshot)
        name = f'attachment; filename="frame-{shown.frame.index:06d}.png"'
        return answer(200, "image/png", data, {"Content-Disposition": name})


def _say(status: int, message: str) -> Response:
    return answer(status, "text/plain; charset=utf-8", f"{message}\n".encode())
