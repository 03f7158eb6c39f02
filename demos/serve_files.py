"""The page's own files and what surrounds every answer: types, lengths, and what a browser may do with it."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from importlib.resources import files

from websockets.datastructures import Headers
from websockets.http11 import Response

__all__ = ["answer", "page_file"]

FOLDER = "live_page"
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "live.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, in nobody's frame. Safari before 15.4 does not count ws: among 'self'.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self' ws://{host} wss://{host}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@lru_cache
def _content(name: str) -> bytes:
    return files("solov2_edge.demos").joinpath(FOLDER, name).read_bytes()


def page_file(path: str, host: str) -> Response | None:
    """Return the answer with the file of the page that stands at ``path``, or None if there is none.

    Args:
        path: of the request, without its query; ``/`` is the page.
        host: the request's Host, checked before.
    """
    name = path.removeprefix("/") or "index.html"
    if name not in TYPES:
        return None
    return answer(200, TYPES[name], _content(name), {"Content-Security-Policy": POLICY.format(host=host)})


def answer(status: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> Response:
    """Return an HTTP answer that no cache keeps and no other site can use.

    Args:
        status: HTTP status code.
        kind: Content-Type.
        body: the content.
        more: further headers.
    """
    headers = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        **(more or {}),
    }
    return Response(status, HTTPStatus(status).phrase, Headers(headers), body)
