"""The server of the page that runs an artefact in the browser: loopback only, and only the files it was started with.

WebAssembly threads share memory, which browsers allow pages that are cross-origin isolated: every answer says so.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from solov2_edge.demos.browser_engine import BrowserEngine
from solov2_edge.demos.serve_access import access_for
from solov2_edge.errors import InputError
from solov2_edge.manifest import manifest_path

__all__ = ["HOST", "PAGE", "BrowserServer", "page_files"]

HOST = "127.0.0.1"
PAGE = Path(__file__).resolve().parent / "browser_page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
BINARY = "application/octet-stream"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Workers and WebAssembly of our own; pictures the user chose are blobs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; "
    "worker-src 'self' blob:; style-src 'self'; img-src 'self' blob:; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
IDLE_SECONDS = 60  # after which a connection without requests is closed

Content = Path | bytes


def page_files(
    artefact: Path, engine: BrowserEngine, samples: Sequence[Path] = (), *, threads: int | None = None
) -> dict[str, Content]:
    """Return everything the page may ask for: path in the address -> file, or bytes made here.

    Args:
        artefact: an ``.onnx`` file; the manifest beside it comes along where there is one.
        engine: onnxruntime-web.
        samples: pictures the page offers.
        threads: what the page begins with; None leaves it to the page.
    """
    files: dict[str, Content] = {f"/{file.name}": file for file in PAGE.iterdir() if file.suffix in TYPES}
    files["/"] = files["/index.html"]
    files |= {f"/onnxruntime-web/{name}": file for name, file in engine.files.items()}
    shown = {f"samples/{file.name}": file for file in samples}
    files |= {f"/{name}": file for name, file in shown.items()}
    files[f"/artefact/{artefact.name}"] = artefact
    if manifest_path(artefact).is_file():
        files[f"/artefact/{artefact.name}.json"] = manifest_path(artefact)
    config = {
        "artefact": quote(f"artefact/{artefact.name}"),
        "samples": [quote(name) for name in shown],
        "onnxruntime_web": engine.version,
        "webgpu": engine.has_webgpu,
        "threads": threads,
    }
    files["/config.json"] = json.dumps(config).encode()
    return files


class BrowserServer:
    """Serves ``files`` on loopback until closed; a context manager.

    Attributes:
        url: the page's address.
    """

    def __init__(self, files: Mapping[str, Content], port: int = 0) -> None:
        """Bind to a port; 0 takes a free one.

        Raises:
            InputError: the port is taken or out of range.
        """
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"port {port} cannot be used ({reason}); name another with --port, 0 for a free one"
            ) from error
        self._server.files = dict(files)
        bound = self._server.server_address[1]
        self._server.access = access_for(HOST, bound)
        self.url = f"http://{HOST}:{bound}/"
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Answer requests until another thread closes the server, or Ctrl-C."""
        self._server.serve_forever()

    def start(self) -> None:
        """Answer requests in a thread of its own."""
        self._thread = threading.Thread(target=self.serve, name="solov2-edge browser", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> BrowserServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: dict[str, Content]
    access: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a browser that went away unmentioned."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "solov2-edge"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with a file's headers."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        headers = {name.lower(): self.headers.get_all(name, []) for name in self.headers}
        refusal = self.server.access.refuse(self.path, headers)
        if refusal is not None:
            self.send_error(refusal.status, refusal.message)
            return
        path = unquote(urlsplit(self.path).path)
        content = self.server.files.get(path)  # a look-up, not a path: nothing else on the disk can be named
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND, "this page has no such file")
            return
        kind = TYPES.get(Path(path).suffix.lower(), TYPES[".html"] if path == "/" else BINARY)
        if isinstance(content, bytes):
            self._head(kind, len(content))
            if with_body:
                self.wfile.write(content)
            return
        try:
            stream = content.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND, "the file is gone")
            return
        with stream:
            self._head(kind, content.stat().st_size)
            if with_body:
                shutil.copyfileobj(stream, self.wfile, 1 << 18)

    def _head(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self) -> None:
        """Put what every answer carries at the end."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are no news to the user."""
