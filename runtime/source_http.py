"""Motion JPEG over HTTP, as network cameras and their proxies send it: pictures, one part of a message each.

FFmpeg would read it too, but draws over what is damaged, says nothing of it, and cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from numpy.typing import NDArray

from solov2_edge.errors import InputError
from solov2_edge.runtime.pictures import decode_picture
from solov2_edge.runtime.source import Mode
from solov2_edge.runtime.source_connection import ConnectionLostError, ConnectionSource

__all__ = ["MotionJpeg", "open_http", "without_secrets"]

MAX_LINE = 1 << 16
MAX_PART = 1 << 26  # bytes of one picture


class _Basic(urllib.request.HTTPBasicAuthHandler):
    def http_error_401(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        return _then_closed(fp, super().http_error_401, req, fp, code, msg, headers)


class _Digest(urllib.request.HTTPDigestAuthHandler):
    def http_error_401(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        return _then_closed(fp, super().http_error_401, req, fp, code, msg, headers)


def _then_closed(first: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """Ask again with a password, and close the first answer, which the library leaves to the garbage collector."""
    try:
        second = ask(*arguments)
    except ValueError:  # another handler's way of asking
        return None
    except BaseException:
        first.close()
        raise
    if second is not None:  # else the first is the answer
        first.close()
    return second


class MotionJpeg:
    """A connection to a multipart response."""

    def __init__(self, response: http.client.HTTPResponse, boundary: str) -> None:
        """Take over a response whose parts are separated by ``boundary``."""
        self._response = response
        self._boundary = boundary.encode("latin-1", "replace").strip(b"-")
        self._inside = False  # behind a boundary
        # Another handle of what it comes over: shutting that down wakes a read, closing a response does not.
        self._wire = socket.fromfd(response.fileno(), socket.AF_INET, socket.SOCK_STREAM)

    def read(self) -> NDArray[Any] | None:
        """Wait for the next picture; see :class:`~solov2_edge.runtime.source_connection.Connection`."""
        try:
            data = self._part()
        except TimeoutError as error:
            raise ConnectionLostError("it stopped sending") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: closed while it was read
            raise ConnectionLostError(f"the connection broke: {error or type(error).__name__}") from error
        try:
            return decode_picture(data, "a frame")
        except InputError:
            return None

    def interrupt(self) -> None:
        """End the connection under a read that waits for it."""
        with contextlib.suppress(OSError):  # already gone
            self._wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()
        self._wire.close()

    def _part(self) -> bytes:
        """Return the next part's content."""
        while not (self._inside or self._is_boundary(self._line())):
            pass
        self._inside = False
        length: int | None = None
        while line := self._line().strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if length is None:
            return self._until_boundary()
        if length > MAX_PART:
            raise ConnectionLostError(f"it announces a frame of {length:,} bytes")
        data = self._response.read(length)
        if len(data) < length:
            raise ConnectionLostError("it ended in the middle of a frame")
        return data

    def _until_boundary(self) -> bytes:
        """Return the content of a part that does not tell its length, and remember that the next one has begun."""
        data = bytearray()
        while not self._is_boundary(line := self._line()):
            data += line
            if len(data) > MAX_PART:
                raise ConnectionLostError(f"a frame has more than {MAX_PART >> 20} MiB")
        self._inside = True
        return bytes(data)

    def _is_boundary(self, line: bytes) -> bool:
        # Some cameras declare it with the dashes that belong in front of it, some send it without.
        return line.strip().strip(b"-") == self._boundary

    def _line(self) -> bytes:
        line = self._response.readline(MAX_LINE)
        if not line:
            raise ConnectionLostError("it ended")
        return line


def open_http(url: str, *, reopen: float, timeout: float) -> ConnectionSource:
    """Open Motion JPEG, or whatever else FFmpeg reads from an address.

    Args:
        url: ``http://`` or ``https://``, with ``name:password@`` where the server asks for them.
        reopen: seconds to look for it after it vanished.
        timeout: seconds to wait for the connection, and for a frame.

    Raises:
        InputError: nothing answers, the server refuses, or it is no video.
    """
    shown = without_secrets(url)

    def connect() -> MotionJpeg:
        connection = _connect(url, shown, timeout)
        if connection is None:
            raise InputError(f"{shown} sends no Motion JPEG any more; look at the camera's settings")
        return connection

    first = _connect(url, shown, timeout)
    if first is None:
        from solov2_edge.runtime.source_video import open_network

        return open_network(url, shown, reopen=reopen, timeout=timeout)
    cure = "open the address in a browser to see what it sends"
    return ConnectionSource(shown, first, connect, mode=Mode.LIVE, fps=None, reopen=reopen, cure=cure)


def without_secrets(url: str) -> str:
    """Return an address without name, password and query, which cameras put passwords in."""
    parts = urlsplit(url)
    query = "..." if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _connect(url: str, shown: str, timeout: float) -> MotionJpeg | None:
    """Return a connection to Motion JPEG, or None where the answer is something else.

    Raises:
        InputError: nothing answers, or the server refuses.
    """
    parts = urlsplit(url)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    users = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        users.add_password(None, plain, unquote(parts.username), unquote(parts.password or ""))
    ask = urllib.request.build_opener(_Digest(users), _Basic(users))
    try:
        response = ask.open(plain, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        cure = "check the address"
        if error.code in (401, 403):
            cure = "write the right name and password into it, as in http://name:password@camera/video"
        raise InputError(f"{shown} answers {error.code} ({error.reason}); {cure}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address at all
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        said = f"no answer within {timeout:g} s" if isinstance(reason, TimeoutError) else said
        raise InputError(f"{shown} cannot be reached ({said}); check the address and that the camera is on") from error
    if response.headers.get_content_maintype() == "multipart" and (boundary := response.headers.get_boundary()):
        return MotionJpeg(response, boundary)
    response.close()
    return None
