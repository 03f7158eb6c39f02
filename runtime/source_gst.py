"""A GStreamer pipeline in a process of its own, whose raw frames come through a pipe: needs no GStreamer in OpenCV."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import shutil
import subprocess
import tempfile

import numpy as np
from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.source_connection import ConnectionLostError

__all__ = ["LAUNCHER", "GstLaunch"]

LAUNCHER = "gst-launch-1.0"
PIPE_BYTES = 1 << 20  # a sixth of a 1080p frame; the usual 64 KiB take a quarter more of both processes
LAST_WORDS = 200  # characters of what it said that go into a message


class GstLaunch:
    """A connection to ``gst-launch-1.0``."""

    def __init__(self, elements: str, width: int, height: int, timeout: float) -> None:
        """Start the pipeline.

        Args:
            elements: from the camera to something that can become BGR, as ``gst-launch-1.0`` takes them.
            width: of a frame in pixels.
            height: of a frame in pixels.
            timeout: seconds to wait for a frame.

        Raises:
            InputError: the program is not installed or cannot be started.
        """
        self._width, self._height, self._timeout = width, height, timeout
        self._stride = -(-3 * width // 4) * 4  # GStreamer's rows of BGR begin at multiples of four bytes
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._pipe, far = os.pipe()
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(far, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # Frames have a pipe to themselves, because elements of Jetsons write messages to the standard output. The
        # leaky queue drops what nobody fetches, so that a frame is never old.
        tail = f"videoconvert ! video/x-raw,format=BGR,width={width},height={height}"
        command = f"{elements} ! {tail} ! queue leaky=downstream max-size-buffers=1 ! fdsink sync=false fd={far}"
        try:
            self._process = subprocess.Popen(
                [shutil.which(LAUNCHER) or LAUNCHER, "-q", *shlex.split(command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(far,),
                start_new_session=True,  # Ctrl-C is ours; it is ended when the source is closed
            )
        except OSError as error:
            os.close(self._pipe)
            self._said.close()
            raise InputError(
                f"{LAUNCHER} cannot be started ({error.strerror}); install it: apt-get install gstreamer1.0-tools"
            ) from error
        finally:
            os.close(far)

    def read(self) -> NDArray[np.uint8]:
        """Wait for the next frame; see :class:`~solov2_edge.runtime.source_connection.Connection`.

        Returns:
            BGR uint8 (height, width, 3).
        """
        rows = np.empty((self._height, self._stride), np.uint8)
        rest = rows.data.cast("B")
        ready = select.poll()
        ready.register(self._pipe, select.POLLIN)
        while rest:
            if not ready.poll(1000 * self._timeout):
                raise ConnectionLostError(f"no frame for {self._timeout:g} s{self._last_words()}")
            count = os.readv(self._pipe, [rest])
            if not count:
                raise ConnectionLostError(f"{LAUNCHER} ended{self._last_words()}")
            rest = rest[count:]
        return rows[:, : 3 * self._width].reshape(self._height, self._width, 3)

    def interrupt(self) -> None:
        """End the process, and with it the pipe."""
        with contextlib.suppress(OSError):  # already gone
            self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        self._process.wait()
        os.close(self._pipe)
        self._said.close()

    def _last_words(self) -> str:
        """Return what it complained of last, to go behind a sentence."""
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().decode(errors="replace").splitlines()]
        errors = [line for line in lines if "rror" in line or "WARNING" in line]
        return f": {errors[0][:LAST_WORDS]}" if errors else ""
