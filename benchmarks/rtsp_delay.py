"""How many frames FFmpeg holds back when it decodes H.264 on several threads.

``python benchmarks/rtsp_delay.py`` serves one RTSP stream on loopback (GStreamer's server, with x264enc, run by the
system's Python: see ``tests/runtime/rtsp_server.py``) and reads it by several captures at the same time, each with
another number of threads. A frame's pixels tell which one it is, so its arrivals can be compared. About 10 seconds.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from solov2_edge.runtime.machine import read_machine, versions
from solov2_edge.runtime.source_capture import open_capture

SERVER = Path(__file__).resolve().parent.parent / "tests" / "runtime" / "rtsp_server.py"
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly}"
WARM = 40  # frames; those that waited while the stream was looked at come in a burst


def arrivals(url: str, threads: int, stop: threading.Event, seen: dict[int, float]) -> None:
    """Note when each frame came, by its pixels."""
    capture = open_capture(url, cv2.CAP_FFMPEG, (cv2.CAP_PROP_N_THREADS, threads), f"{url} gives no video")
    count = 0
    while not stop.is_set():
        good, image = capture.read()
        assert good
        count += 1
        if count > WARM:
            seen.setdefault(hash(image.tobytes()), time.perf_counter())
    capture.release()


def main() -> None:
    """Serve, read, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seconds", type=float, default=7)
    parser.add_argument("--python", default="/usr/bin/python3", help="one with GStreamer's bindings")
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([args.python, str(SERVER), str(port)], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != b"serving\n":
                raise SystemExit(f"{args.python} lacks GStreamer's RTSP server: apt-get install {PACKAGES}")
            seen: dict[int, dict[int, float]] = {count: {} for count in (1, *args.threads)}
            stop = threading.Event()
            readers = [
                threading.Thread(target=arrivals, args=(f"rtsp://127.0.0.1:{port}/h264", count, stop, times))
                for count, times in seen.items()
            ]
            for reader in readers:
                reader.start()
            time.sleep(args.seconds)
            stop.set()
            for reader in readers:
                reader.join()
        finally:
            server.kill()
    print(f"{read_machine().cpu}, load {read_machine().load}, {versions()}")
    for count in args.threads:
        later = [1e3 * (when - seen[1][frame]) for frame, when in seen[count].items() if frame in seen[1]]
        assert len(later) > 20, f"only {len(later)} frames came on both"
        low, middle, high = np.percentile(later, (5, 50, 95)).tolist()
        print(f"{count} threads: {middle:.0f} ms later than 1 ({low:.0f}..{high:.0f}), {len(later)} frames")


if __name__ == "__main__":
    main()
