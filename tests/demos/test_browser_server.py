"""The server of the page that runs in the browser: what it gives, what it refuses, and how it says it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from solov2_edge.demos.browser_engine import BrowserEngine
from solov2_edge.demos.browser_server import PAGE, BrowserServer, page_files
from solov2_edge.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | bytes]:
    artefact, engine, sample = tmp_path / "a b.onnx", tmp_path / "ort.wasm.min.mjs", tmp_path / "ä.jpg"
    artefact.write_bytes(b"graph" * 100_000)
    engine.write_text("export {};", encoding="utf-8")
    sample.write_bytes(b"picture")
    (tmp_path / "a b.onnx.json").write_text("{}", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    return page_files(artefact, BrowserEngine("1.2.3", {engine.name: engine}), [sample], threads=3)


@pytest.fixture
def server(files: dict[str, Path | bytes]) -> Iterator[BrowserServer]:
    with BrowserServer(files) as server:
        server.start()
        yield server


def ask(
    server: BrowserServer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_every_file_of_the_page_is_served_as_what_it_is(server: BrowserServer) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
    for file in PAGE.iterdir():
        answer, body = ask(server, f"/{file.name}")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kinds[file.suffix])
        assert body == file.read_bytes()
    assert ask(server, "/")[1] == (PAGE / "index.html").read_bytes()


def test_the_artefact_and_what_belongs_to_it(server: BrowserServer) -> None:
    config = json.loads(ask(server, "/config.json")[1])
    assert config == {
        "artefact": "artefact/a%20b.onnx",
        "samples": ["samples/%C3%A4.jpg"],
        "onnxruntime_web": "1.2.3",
        "webgpu": False,
        "threads": 3,
    }
    answer, body = ask(server, f"/{config['artefact']}?again")
    assert body == b"graph" * 100_000
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert ask(server, f"/{config['artefact']}.json")[1] == b"{}"
    assert ask(server, f"/{config['samples'][0]}")[1] == b"picture"
    assert ask(server, "/onnxruntime-web/ort.wasm.min.mjs")[1] == b"export {};"


def test_every_answer_isolates_the_page(server: BrowserServer) -> None:
    for path in ("/", "/worker.mjs", "/config.json", "/nothing"):
        headers = ask(server, path)[0].headers
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt", "/../secret.txt", "/artefact/../secret.txt", "/artefact/%2e%2e/secret.txt", "/etc/passwd",
        "//etc/passwd", "/samples/..%2fsecret.txt", "/artefact/", "/browser_page/index.html", "/main.mjs%00.html",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server: BrowserServer, path: str) -> None:
    answer, body = ask(server, path)
    assert answer.status == 404
    assert b"secret\n" not in body + b"\n"


def test_other_names_and_other_sites_are_refused(server: BrowserServer) -> None:
    assert ask(server, "/", headers={"Host": "rebound.example"})[0].status == 421
    other = {"Origin": "http://other.example"}
    assert ask(server, "/", headers=other)[0].status == 403
    port = urlsplit(server.url).port
    assert ask(server, "/", headers={"Host": f"localhost:{port}"})[0].status == 200


def test_head_and_other_methods(server: BrowserServer) -> None:
    answer, body = ask(server, "/artefact/a%20b.onnx", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == "500000"
    assert ask(server, "/", "POST")[0].status == 501


def test_a_file_that_went_away(server: BrowserServer, tmp_path: Path) -> None:
    (tmp_path / "a b.onnx").unlink()
    assert ask(server, "/artefact/a%20b.onnx")[0].status == 404
    assert ask(server, "/")[0].status == 200


def test_a_browser_that_goes_away_is_no_news(server: BrowserServer, capfd: pytest.CaptureFixture[str]) -> None:
    where = urlsplit(server.url)
    for _ in range(3):
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(b"GET /artefact/a%20b.onnx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert ask(server, "/")[0].status == 200
    assert capfd.readouterr().err == ""


def test_it_listens_on_loopback_alone_and_says_where(server: BrowserServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_a_port_that_is_taken(server: BrowserServer) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(InputError, match=rf"port {port} cannot be used .* --port"):
        BrowserServer({}, port)
