"""Does a live view stay as it began? Memory, threads, descriptors, latency and drops over thousands of frames.

``python benchmarks/soak.py`` runs the loop of ``solov2-edge live --headless`` with JSON lines and a recording:

- over test:// as fast as it goes, every frame (``--frames``, 2,000);
- over test:// at ``--fps`` frames per second in live mode, where the model drops what it cannot do;
- over every ``--video`` in both modes;
- over Motion JPEG from a server of its own that is killed in the middle and comes back on the same port.

After each the process must have as many threads and descriptors as before, and memory must not have grown from the
first quarter to the last by more than ``MOST_GROWTH``; the recording must hold all that was shown.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

from solov2_edge.bundled import bundle
from solov2_edge.demos.live import run_live
from solov2_edge.demos.live_controls import Controls, Settings
from solov2_edge.demos.live_lines import JsonLines
from solov2_edge.demos.live_recorder import Recorder
from solov2_edge.demos.live_statistics import Statistics
from solov2_edge.demos.live_view import Shown
from solov2_edge.runtime import Segmenter, load
from solov2_edge.runtime.machine import read_machine
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_shapes import draw_shapes
from solov2_edge.runtime.stream import open_source

MOST_GROWTH = 12.0  # MiB from the first quarter's median to the last's
SAMPLES = 400
SCORE = 0.1  # low, so that there is much to draw, encode and follow
SIZE = (640, 480)  # W x H of what the server shows
SERVER_FPS = 30.0
AWAY_SECONDS = 3.0


def resident_mib() -> float:
    """Return the memory of this process that is in RAM, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors() -> int:
    """Return how many files, sockets and the like this process holds."""
    return len(os.listdir("/proc/self/fd"))


@dataclass
class Watch:
    """A view that looks at the process instead of the picture."""

    every: int
    memory: list[float] = field(default_factory=list)
    frames: int = 0
    instances: int = 0
    tracks: int = 0
    at: dict[int, Callable[[], None]] = field(default_factory=dict)

    def show(self, shown: Shown) -> None:
        """Count, and sample the memory."""
        self.frames += 1
        self.instances += len(shown.instances)
        self.tracks = max(self.tracks, int(shown.tracks.max(initial=0)))
        if self.frames % self.every == 0:
            self.memory.append(resident_mib())
        if self.frames in self.at:
            self.at[self.frames]()

    def tick(self, statistics: Statistics) -> None:
        """Nothing is to do between frames."""

    def close(self) -> None:
        """Nothing is held."""

    def quarters(self) -> tuple[float, float]:
        """Return the median memory of the first and of the last quarter."""
        quarter = max(1, len(self.memory) // 4)
        first, last = sorted(self.memory[:quarter]), sorted(self.memory[-quarter:])
        return first[len(first) // 2], last[len(last) // 2]


class Server:
    """Motion JPEG over HTTP, in a process of its own that can be killed and comes back on the same port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        port = self.url.rstrip("/").rpartition(":")[2]
        self._process = subprocess.Popen([sys.executable, __file__, "--serve", port])
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"no server at {self.url}")

    def stop(self) -> None:
        """Kill it, in the middle of a frame or not."""
        self._process.kill()
        self._process.wait()

    def vanish(self) -> None:
        """Be gone for a while; returns at once."""

        def away() -> None:
            self.stop()
            time.sleep(AWAY_SECONDS)
            self.start()

        threading.Thread(target=away).start()


class MotionJpeg(BaseHTTPRequestHandler):
    """Sends moving shapes until its reader has gone."""

    def do_GET(self) -> None:
        """Send a picture 30 times a second."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for index in itertools.count():
                jpeg = cv2.imencode(".jpg", draw_shapes(*SIZE, index, 5))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(1 / SERVER_FPS)
        except OSError:  # the reader has gone
            return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def steady(name: str, watch: Watch) -> Iterator[dict[str, Any]]:
    """Compare the process before and after, print a line and assert that nothing is left behind."""
    gc.collect()
    threads, files = threading.active_count(), descriptors()
    row: dict[str, Any] = {"run": name}
    yield row
    gc.collect()
    first, last = watch.quarters()
    row |= {
        "memory_mib": [round(first, 1), round(last, 1)],
        "threads": [threads, threading.active_count()],
        "descriptors": [files, descriptors()],
        "instances": watch.instances,
        "tracks": watch.tracks,
    }
    print(json.dumps(row), flush=True)
    assert last - first < MOST_GROWTH, f"{name}: memory grew from {first:.1f} to {last:.1f} MiB"
    assert row["threads"][0] == row["threads"][1], f"{name}: {row['threads']} threads before and after"
    assert row["descriptors"][0] == row["descriptors"][1], f"{name}: {row['descriptors']} descriptors before and after"


def soak(
    segment: Segmenter,
    name: str,
    text: str,
    mode: Mode,
    frames: int,
    folder: Path,
    at: dict[int, Callable[[], None]] | None = None,
    most: int | None = None,
) -> dict[str, Any]:
    """Run one source through the loop and look at what it leaves."""
    print(f"{name}: {text}", file=sys.stderr, flush=True)
    watch = Watch(max(1, frames // SAMPLES), at=at or {})
    controls = Controls(segment.spec.class_names, Settings(score_threshold=SCORE, recording=True))
    said: list[str] = []
    video, lines = folder / f"{len(list(folder.iterdir()))}.mp4", folder / "lines.jsonl"
    with steady(name, watch) as row:
        source = open_source(text)
        views = [JsonLines(lines), Recorder(video, source.fps, said.append, live=mode is Mode.LIVE), watch]
        row |= run_live(segment, source, views, controls, mode=mode, frames=most)
        with lines.open() as written:
            assert sum(1 for _ in written) == row["frames"], "not a line for every frame"
        recorded = cv2.VideoCapture(str(video))
        row["recorded"] = int(recorded.get(cv2.CAP_PROP_FRAME_COUNT))
        recorded.release()
        assert row["recorded"] >= (row["frames"] if mode is not Mode.LIVE else 1)
        video.unlink()
        lines.unlink()
    return row


def main() -> None:
    """Run everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", nargs="?", type=Path, help="default: the bundled one")
    parser.add_argument("--frames", type=int, default=2000, help="of test:// in video mode (%(default)s)")
    parser.add_argument("--fps", type=float, default=60, help="of test:// in live mode (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of live mode (%(default)s)")
    parser.add_argument("--video", type=Path, action="append", default=[], help="a file to go through; may repeat")
    parser.add_argument("--threads", type=int, default=1, help="of the network (%(default)s)")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only be the Motion JPEG server")
    args = parser.parse_args()
    if args.serve is not None:
        ThreadingHTTPServer(("127.0.0.1", args.serve), MotionJpeg).serve_forever()
    artefact = args.artefact or bundle().artefact
    machine = read_machine()
    print(f"{machine.cpu}, {args.threads} threads, {artefact.name}, load {machine.load}")
    with load(artefact, threads=args.threads) as segment, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segment(draw_shapes(*SIZE, 0, 5))  # what is made once
        plain = f"test://{SIZE[0]}x{SIZE[1]}?fps=0&frames={args.frames}"
        soak(segment, "test, video", plain, Mode.VIDEO, args.frames, folder)
        count = round(args.fps * args.seconds)
        paced = f"test://{SIZE[0]}x{SIZE[1]}?fps={args.fps:g}&frames={count}"
        row = soak(segment, "test, live", paced, Mode.LIVE, count // 10, folder)
        assert row["frames"] + row["dropped"] == count, "frames are unaccounted for"
        for video in args.video:
            for mode in (Mode.VIDEO, Mode.LIVE):
                capture = cv2.VideoCapture(str(video))
                frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
                capture.release()
                row = soak(segment, f"{video.name}, {mode.value}", str(video), mode, frames, folder)
                assert row["frames"] + row["dropped"] + row["corrupt"] == frames, "frames are unaccounted for"
        server = Server()
        try:
            most = 200
            row = soak(segment, "motion jpeg", server.url, Mode.LIVE, most, folder, {most // 2: server.vanish}, most)
            assert row["frames"] == most, "the stream did not come back"
            assert row["reopened"] >= 1, "the stream never went away"
        finally:
            server.stop()
    print("steady: memory, threads and descriptors at the end as at the beginning")


if __name__ == "__main__":
    main()
