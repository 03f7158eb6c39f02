"""A robot that turns to the largest object and follows it: detect, track, act. An example to copy and change.

``python -m solov2_edge.demos.robot model.int8-tensorrt.onnx csi://0`` prints a command per frame; a robot gives
:func:`follow` its motors' function instead. Motors must stop by themselves when a command is older than its ``valid``
seconds: where the camera vanishes, no frame and so no command comes.
"""

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from solov2_edge.demos.tracks import Tracker
from solov2_edge.errors import SolovEdgeError, require
from solov2_edge.runtime import Segmenter, Source, StreamResult, load, open_source, watch

LATEST_MS, NEAR = 300.0, 0.25  # a target that fills a quarter of the frame is near enough
STOP: dict[str, Any] = {"turn": 0.0, "forward": 0.0, "target": None, "valid": 0.5}


def decide(result: StreamResult, tracker: Tracker, followed: int | None) -> dict[str, Any]:
    """Return the command for one frame: ``turn`` -1 (left) to 1, ``forward`` 0 to 1, and ``target``, a track.

    Args:
        result: of the newest frame; an old one stops the robot, for what it shows is somewhere else by now.
        tracker: has seen the frames before.
        followed: the target so far, kept while it is in sight; else the largest object is the next.
    """
    tracks = tracker.update(result.instances, result.frame.index).tolist()
    if not tracks or result.latency > LATEST_MS:
        return STOP
    areas, (height, width) = result.instances.areas, result.instances.frame_shape
    at = tracks.index(followed) if followed in tracks else int(areas.argmax())
    x0, _, x1, _ = result.instances.boxes[at].tolist()
    forward = max(0.0, 1 - float(areas[at]) / (NEAR * height * width))
    return {**STOP, "turn": (x0 + x1) / width - 1, "forward": forward, "target": tracks[at]}


def follow(segment: Segmenter, source: Source, act: Callable[[dict[str, Any]], object]) -> None:
    """Act on every frame until the source ends; however this ends, the last command is to stop."""
    tracker, command = Tracker(), STOP
    try:
        for result in watch(segment, source):
            command = decide(result, tracker, command["target"])
            act(command)
    finally:
        act(STOP)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # systemd's way to end a service: stop the motors first
    try:
        require(len(sys.argv) == 3, "expected an artefact and a source, such as model.onnx csi://0")
        with load(sys.argv[1], providers=("tensorrt", "cuda", "cpu"), score_threshold=0.3) as segment:
            follow(segment, open_source(sys.argv[2]), lambda command: print(json.dumps(command), flush=True))  # noqa: T201
    except SolovEdgeError as error:
        sys.exit(f"robot: {error}")
