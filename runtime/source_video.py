"""Video files, and what FFmpeg reads over the network."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from solov2_edge.runtime.native_stderr import captured_stderr
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_capture import Capture, open_capture
from solov2_edge.runtime.source_connection import ConnectionSource

__all__ = ["open_network", "open_video"]

# Frames in a row that may fail before that is taken for the end; trying one takes some microseconds.
FILE_TRIES = 1000
STREAM_TRIES = 100
# What OpenCV's own reader of AVI files writes to stderr of a damaged one; no setting of OpenCV's silences it.
CHATTER = re.compile(r"Unexpected element\.|\s*$")


def open_video(path: Path) -> ConnectionSource:
    """Open a video file; frames are turned as its metadata say.

    Raises:
        InputError: OpenCV cannot open it.
    """
    cure = "save it as MP4 (H.264), or give a picture, a folder, a camera or a stream"
    refusal = f"{path} is neither a picture nor a video that OpenCV {cv2.__version__} reads; {cure}"

    def connect() -> Capture:
        with captured_stderr(CHATTER):
            return Capture(open_capture(str(path), cv2.CAP_ANY, (), refusal), "", FILE_TRIES)

    first = connect()
    return ConnectionSource(str(path), first, connect, mode=Mode.VIDEO, fps=first.fps(), reopen=0, cure=cure)


def open_network(url: str, shown: str, *, reopen: float, timeout: float) -> ConnectionSource:
    """Open what FFmpeg reads over the network: RTSP, or a video behind HTTP.

    Args:
        url: as FFmpeg takes it.
        shown: the same without a password.
        reopen: seconds to look for it after it vanished.
        timeout: seconds to wait for the connection, and for a frame.

    Raises:
        InputError: nothing answers, or it is no video.
    """
    cure = "check the address, name and password, and that a player such as VLC shows it"
    wait = round(1000 * timeout)
    # Decoding on several threads holds back as many frames as there are threads.
    settings = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait, cv2.CAP_PROP_N_THREADS, 1)

    def connect() -> Capture:
        capture = open_capture(url, cv2.CAP_FFMPEG, settings, f"{shown} gives no video; {cure}")
        return Capture(capture, f"{shown} ended, or gave no frame for {timeout:g} s", STREAM_TRIES, timeout)

    first = connect()
    fps = first.fps()
    if first.is_finite() and fps:
        return ConnectionSource(shown, first, connect, mode=Mode.VIDEO, fps=fps, reopen=0, cure=cure)
    return ConnectionSource(shown, first, connect, mode=Mode.LIVE, fps=fps, reopen=reopen, cure=cure)
