"""The torch-free runtime: artefacts in, instances out.

    from solov2_edge.runtime import load

    segment = load("light-448-r18.onnx", score_threshold=0.3)
    instances = segment(frame)  # BGR uint8 (H, W, 3)
    for result in segment.stream(frames):  # the same, capturing, running and decoding at once
        print(result.index, len(result.instances), result.latency)
    for result in watch(segment, open_source("0")):  # the newest frame of a camera, again and again
        print(result.frame.index, len(result.instances), result.latency, result.dropped)

Importing it loads numpy and OpenCV; engines and cameras are imported when one is opened.
"""

from typing import TYPE_CHECKING, Any

from solov2_edge.manifest import Manifest
from solov2_edge.runtime.decode import DecodeOptions
from solov2_edge.runtime.frame_stream import FrameResult
from solov2_edge.runtime.instances import Instances
from solov2_edge.runtime.loading import load
from solov2_edge.runtime.panoptic import Panoptic, PanopticOptions, PanopticSegment
from solov2_edge.runtime.pictures import read_picture
from solov2_edge.runtime.preprocess import Geometry
from solov2_edge.runtime.segmenter import Segmenter
from solov2_edge.runtime.session import DecodedOutputs, RawOutputs

if TYPE_CHECKING:
    from solov2_edge.runtime.stream import Frame, Mode, Source, SourceStatus, StreamResult, open_source, watch

__all__ = [
    "DecodeOptions",
    "DecodedOutputs",
    "Frame",
    "FrameResult",
    "Geometry",
    "Instances",
    "Manifest",
    "Mode",
    "Panoptic",
    "PanopticOptions",
    "PanopticSegment",
    "RawOutputs",
    "Segmenter",
    "Source",
    "SourceStatus",
    "StreamResult",
    "load",
    "open_source",
    "read_picture",
    "watch",
]

STREAM = ("Frame", "Mode", "Source", "SourceStatus", "StreamResult", "open_source", "watch")


def __getattr__(name: str) -> Any:
    """Import what belongs to :mod:`solov2_edge.runtime.stream` when it is asked for."""
    if name not in STREAM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from solov2_edge.runtime import stream

    return getattr(stream, name)
