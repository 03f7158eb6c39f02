"""One page that looks on: it gets the newest frame whenever it has drawn the one before, at its own pace.

A socket takes megabytes before it says that its reader is slow, which would be seconds of old frames. So the page tells
which frame it has drawn, and no more than two are under way to it: one on the wire while the other is drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.serve_messages import hello, read_message, refused, state
from solov2_edge.demos.serve_pictures import Newest, stream_picture
from solov2_edge.errors import InputError

__all__ = ["Viewer"]

AHEAD = 2  # pictures sent and not yet drawn
HEARTBEAT = 1.0  # seconds after which the figures are sent though no frame was
POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


class Viewer:
    """One open page."""

    def __init__(
        self, connection: ServerConnection, newest: Newest, controls: Controls, statistics: Callable[[], Statistics]
    ) -> None:
        """Look after ``connection``; ``statistics`` gives them as they are now."""
        self._connection = connection
        self._newest = newest
        self._controls = controls
        self._statistics = statistics
        self._wake = asyncio.Event()
        self._watching = False  # until the page says so: a tab in the background costs nothing
        self._under_way: list[int] = []  # numbers of the frames sent and not yet drawn

    async def run(self, title: str) -> None:
        """Serve the page until it leaves, breaks or says something it must not."""
        self._newest.listeners.add(self._wake)
        sending = asyncio.create_task(self._send(title))
        hearing = asyncio.create_task(self._hear())
        try:
            await asyncio.wait((sending, hearing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._newest.listeners.discard(self._wake)
            sending.cancel()
            hearing.cancel()
            ends = await asyncio.gather(sending, hearing, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ConnectionClosed):
                raise end

    async def _send(self, title: str) -> None:
        await self._connection.send(hello(title, self._controls))
        loop, newest, sent, told, due = asyncio.get_running_loop(), self._newest, 0, None, 0.0
        while True:
            self._wake.clear()
            picture = self._watching and len(self._under_way) < AHEAD and newest.number != sent
            if picture or loop.time() >= due or told is not self._controls.settings:
                told, due = self._controls.settings, loop.time() + HEARTBEAT
                sent = await self._tell(picture) or sent
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, due - loop.time()))
            except asyncio.TimeoutError:
                continue

    async def _tell(self, picture: bool) -> int:
        """Send the figures, with the newest picture or without; returns the number of the picture, or 0."""
        newest = self._newest
        number, shown, age = newest.number, newest.shown, newest.age
        data = await newest.encoded(stream_picture) if picture else b""
        await self._connection.send(state(number, shown, age, self._statistics(), self._controls, picture=picture))
        if not picture:
            return 0
        self._under_way.append(number)
        await self._connection.send(data)
        return number

    async def _hear(self) -> None:
        async for text in self._connection:
            try:
                message = read_message(text)
            except InputError as error:
                await self._connection.close(POLICY_VIOLATION, str(error)[:120])
                return
            if "seen" in message:
                self._under_way = [number for number in self._under_way if number > message["seen"]]
                self._wake.set()
            elif "watching" in message:
                self._watching = message["watching"]
                self._wake.set()
            else:
                await self._change(message["set"])

    async def _change(self, changes: Mapping[str, Any]) -> None:
        try:
            self._controls.change(**changes)
        except InputError as error:
            await self._connection.send(refused(str(error)))
        self._newest.wake()  # the other pages show the same settings
