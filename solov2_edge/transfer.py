"""Growing a partial file over https until it is whole: ranges, validators, redirects, proxies, one-sentence failures.

A partial file carries the server's validator beside it (``<part>.tag``): what continues it must be the same version.
Standard library only.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from solov2_edge import __version__
from solov2_edge.errors import InputError, SolovEdgeError, require
from solov2_edge.files import is_full, write_aside

__all__ = ["Progress", "discard", "read_note", "require_allowed", "tag_path", "transfer"]

LARGEST = 2 << 30  # bytes; the largest published file is under 600 MB
_CHUNK = 1 << 18  # bytes
_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
_AGENT = f"solov2-edge/{__version__}"

Progress = Callable[[int, "int | None"], None]


def tag_path(part: Path) -> Path:
    """Return where the validator (ETag or date) of a partial file is kept."""
    return part.with_name(part.name + ".tag")


def read_note(note: Path) -> str:
    """Return the text of a small file of ours, or nothing where there is none."""
    return note.read_text(errors="replace").strip() if note.exists() else ""


def discard(part: Path) -> None:
    """Remove a partial file and its validator."""
    part.unlink(missing_ok=True)
    tag_path(part).unlink(missing_ok=True)


def transfer(url: str, part: Path, progress: Progress | None, attempts: int, timeout: float) -> None:
    """Grow ``part`` until it is whole, reconnecting while that helps.

    Args:
        url: where from.
        part: the partial file; need not exist.
        progress: called with (bytes so far, total or None).
        attempts: connections to try while the file keeps growing.
        timeout: seconds without an answer after which a connection counts as dead.

    Raises:
        InputError: what is sent is no file, or larger than any checkpoint, or redirected somewhere unsafe.
        SolovEdgeError: the server or the network failed; what arrived is kept.
    """
    tried = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _connect_and_append(url, part, progress, timeout)
            return
        except urllib.error.HTTPError as error:
            raise _http_failure(url, error) from error
        except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and cut connections
            if isinstance(error, OSError) and is_full(error):
                raise  # trying again would not help; what arrived is kept
            tried += 1
            after = part.stat().st_size if part.exists() else 0
            if tried >= attempts or after <= before:
                raise SolovEdgeError(_network_failure(url, error, after)) from error


def _connect_and_append(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"})
    offset = part.stat().st_size if part.exists() else 0
    tag = read_note(tag_path(part))
    if offset and tag.isascii() and tag.isprintable() and tag:
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", tag)  # another version of the file comes whole, not as a mixture
    try:
        answer = _opener(url).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        discard(part)  # longer than the file, or the file shrank: begin again
        request.remove_header("Range")
        request.remove_header("If-range")
        answer = _opener(url).open(request, timeout=timeout)
    with answer:
        start, total = _extent(answer)
        if start not in (0, offset):
            discard(part)
            raise http.client.HTTPException(f"it sent bytes from {start}, asked for {offset}")
        _require_file(url, answer, total)
        if start == 0:
            tag_path(part).unlink(missing_ok=True)
            validator = _validator(answer)
            if validator:
                write_aside(tag_path(part), validator)
        with part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            _copy(answer, stream, start, total, progress)
    whole = part.stat().st_size
    if total is not None and whole < total:
        raise http.client.IncompleteRead(b"", total - whole)


def _extent(answer: Any) -> tuple[int, int | None]:
    """Return (first byte, size of the whole file or None) of an answer."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        span, _, size = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if first.isdigit() and size.isdigit():
            return int(first), int(size)
        raise http.client.HTTPException("a partial answer without Content-Range")
    return 0, int(length) if length.isdigit() else None


def _validator(answer: Any) -> str:
    """Return what If-Range may hold: a strong ETag, else the modification date, else nothing."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


def _require_file(url: str, answer: Any, total: int | None) -> None:
    require(total is None or total <= LARGEST, f"{url} announces {total} bytes, more than any checkpoint; not fetched")
    require(
        answer.headers.get_content_type() != "text/html",
        f"{url} sends a web page, not a file; the link is dead or wants a login: fetch the file with a browser",
    )


def _copy(answer: Any, stream: IO[bytes], start: int, total: int | None, progress: Progress | None) -> None:
    done = start
    while chunk := answer.read(_CHUNK):
        done += len(chunk)
        if done > (LARGEST if total is None else total):
            stream.truncate(0)
            raise InputError(f"{answer.url} sends more than it announced, or than any checkpoint has; stopped")
        stream.write(chunk)
        if progress is not None:
            progress(done, total)


def require_allowed(url: str, from_url: str) -> None:
    """Refuse every scheme but https; http is for this machine itself (and not after leaving it).

    Args:
        url: the address.
        from_url: the address that redirects to it, or ``""``.

    Raises:
        InputError: it is refused.
    """
    parts = urlsplit(url)
    local = parts.hostname in _LOOPBACK and (not from_url or urlsplit(from_url).hostname in _LOOPBACK)
    require(
        bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local)),
        f"{f'a redirect from {from_url} to ' if from_url else ''}{url} is refused: expected an https:// address",
    )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Check the new address, then do as the standard library does."""
        require_allowed(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener that honours the proxies of the environment, except for this machine itself."""
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
    if urlsplit(url).hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _http_failure(url: str, error: urllib.error.HTTPError) -> SolovEdgeError:
    cures = {
        401: "it wants a login; fetch the file with a browser",
        403: "it refuses us; fetch the file with a browser",
        404: "the file is not there any more; look for it at its publisher",
        429: "too many requests; wait a few minutes and run this again",
    }
    if 300 <= error.code < 400:  # urllib itself refuses some schemes, and endless redirects
        error.close()
        return InputError(f"a redirect from {url} is refused: {error.reason}")
    cure = cures.get(error.code, "try again later; what has arrived is kept")
    error.close()
    return SolovEdgeError(f"{url} answers {error.code} {error.reason}: {cure}")


def _network_failure(url: str, error: Exception, have: int) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, http.client.IncompleteRead):
        reason = f"the connection ended {error.expected} bytes early"
    kept = (
        f"; {have} bytes are kept, run this again to resume" if have else "; check the network and the proxy settings"
    )
    return f"{url} could not be fetched: {str(reason) or type(error).__name__}{kept}"
