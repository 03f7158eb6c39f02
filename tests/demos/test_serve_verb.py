"""``solov2-edge live --serve`` as a user starts it: the address it prints, the page behind it, its end."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

SECONDS = 120  # three on an idle machine
COMMAND = [sys.executable, "-m", "solov2_edge", "live", "--source", "test://", "--threads", "1", "--serve", "0"]


@contextmanager
def started(*more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Give the running program and the address it prints."""
    process = subprocess.Popen([*COMMAND, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield process, found.group()
                break
        else:
            pytest.fail("it printed no address")
    finally:
        process.kill()
        process.communicate()


def test_a_page_is_served_until_ctrl_c() -> None:
    with started() as (process, url):
        port = urlsplit(url).port
        assert url == f"http://localhost:{port}/"
        connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS)
        connection.request("GET", "/")
        assert b"<canvas" in connection.getresponse().read()
        connection.close()
        with connect(f"ws://localhost:{port}/live", max_size=None) as page:
            page.send('{"watching": true}')
            while not isinstance(data := page.recv(timeout=SECONDS), bytes):
                said = json.loads(data)
            assert data[:2] == b"\xff\xd8"  # a JPEG
            assert said["picture"]
            assert said["statistics"]["state"] == "open"
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + signal.SIGINT
        assert re.search(r"\d+ frames", out)


def test_other_machines_need_the_token_it_prints() -> None:
    with started("--host", "0.0.0.0", "--quiet") as (_, url):
        parts = urlsplit(url)
        assert re.fullmatch(r"token=[\w-]{32}", parts.query)
        for query, status in (("", 401), (f"?{parts.query}", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=SECONDS)
            connection.request("GET", f"/{query}")
            assert connection.getresponse().status == status
            connection.close()


def test_without_the_library_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['websockets'] = None; from solov2_edge.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, *COMMAND[3:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 4
    assert "pip install 'solov2-edge[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
