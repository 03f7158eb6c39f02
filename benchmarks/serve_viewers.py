"""What pages that look on cost the live loop: frames per second with none, one and several of them.

``python benchmarks/serve_viewers.py`` runs the bundled model over 1080p frames as fast as it can, with the page served,
and lets viewers in a process of their own look on: none, one, four and eight in turns. Everything shares the machine's
cores, encoding included, so the ratio holds the whole cost of being looked at; on a board with a core to spare it is
smaller. Processor time is that of the serving process, and hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from solov2_edge.bundled import bundle
from solov2_edge.demos.live import run_live
from solov2_edge.demos.live_controls import Controls
from solov2_edge.demos.live_view import Shown
from solov2_edge.demos.serve import ServeView
from solov2_edge.runtime import load
from solov2_edge.runtime.bench_frames import read_frames, resized
from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.source import Frame, Mode, Source, SourceStatus

FULL_HD = (1080, 1920)  # H x W


class Memory(Source):
    """Gives frames that are in memory, over and over, as fast as they are asked for."""

    description = "frames in memory"
    mode = Mode.VIDEO
    fps = None

    def __init__(self, frames: tuple[NDArray[np.uint8], ...]) -> None:
        """Keep the frames."""
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        """Yield them for ever."""
        index = 0
        while True:
            yield Frame(self._frames[index % len(self._frames)], index, time.perf_counter())
            index += 1

    def status(self) -> SourceStatus:
        """Return that it is open."""
        return SourceStatus()

    def close(self) -> None:
        """Let the frames go with the object."""


class Timed(ServeView):
    """Notes how long showing a frame holds the loop up."""

    def __init__(self, controls: Controls) -> None:
        """Serve on any free port of this machine."""
        super().__init__("127.0.0.1", 0, controls)
        self.seconds: list[float] = []

    def show(self, shown: Shown) -> None:
        """Show, and look at the clock."""
        start = time.perf_counter()
        super().show(shown)
        self.seconds.append(time.perf_counter() - start)


def look_on(pipe: Connection, port: int, viewers: int) -> None:
    """Look on as so many pages do, until the server ends; sends back how many pictures each has seen."""

    async def page() -> int:
        seen = number = 0
        async with connect(f"ws://127.0.0.1:{port}/live", max_size=None, compression=None) as socket:
            await socket.send('{"watching": true}')
            async for message in socket:
                if isinstance(message, str):
                    said = json.loads(message)
                    number = said.get("number", number)
                else:
                    seen += 1
                    with suppress(ConnectionClosed):  # the end; what is on its way is still read
                        await socket.send(json.dumps({"seen": number}))
        return seen

    async def pages() -> list[int]:
        return list(await asyncio.gather(*[page() for _ in range(viewers)]))

    pipe.send(asyncio.run(pages()))


def main() -> None:
    """Print frames per second and their ratio to those without viewers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60, help="per run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 4, 8])
    args = parser.parse_args()
    files = bundle()
    frames = resized(read_frames(files.pictures, 3), *FULL_HD)
    rates: dict[int, list[float]] = {viewers: [] for viewers in args.viewers}
    shows: dict[int, list[float]] = {viewers: [] for viewers in args.viewers}
    costs: dict[int, list[float]] = {viewers: [] for viewers in args.viewers}
    seen: dict[int, list[int]] = {viewers: [] for viewers in args.viewers}
    with load(files.artefact, threads=1) as segment:
        for number in range(args.rounds):
            for viewers in np.roll(args.viewers, number).tolist():
                controls = Controls(segment.spec.class_names)
                view = Timed(controls)
                ours, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=look_on, args=(theirs, view.port, viewers)
                )
                process.start()
                theirs.close()
                while view.viewers < viewers:
                    time.sleep(0.01)
                before = time.process_time()
                summary = run_live(segment, Memory(frames), [view], controls, frames=args.frames)
                costs[viewers].append(1e3 * (time.process_time() - before) / args.frames)
                seen[viewers] += ours.recv()
                process.join()
                rates[viewers].append(summary["fps"])
                shows[viewers] += view.seconds
    print(f"{read_machine().cpu}, load {read_machine().load}, {versions()}")
    for viewers in args.viewers:
        ratio = np.median(np.array(rates[viewers]) / np.array(rates[args.viewers[0]]))
        pictures = np.median(seen[viewers]) / args.frames if viewers else 0.0
        print(
            f"{viewers} viewers: {np.median(rates[viewers]):5.1f} frames/s, ratio {ratio:.2f}; "
            f"{np.median(costs[viewers]):.1f} ms of processor time a frame; show() "
            f"{1e6 * np.median(shows[viewers]):.0f} us, 95 % {1e6 * np.quantile(shows[viewers], 0.95):.0f} us; "
            f"a viewer saw {100 * pictures:.0f} % of the frames"
        )
        assert all(0 < pictures <= args.frames for pictures in seen[viewers])


if __name__ == "__main__":
    main()
