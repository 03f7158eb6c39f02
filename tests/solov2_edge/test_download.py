"""Downloads against a server on this machine that can do everything a real one does wrong."""

import hashlib
import http.server
import threading
from dataclasses import dataclass, field, replace

import pytest

from solov2_edge import download as module
from solov2_edge import transfer
from solov2_edge.download import cache_folder, download, fetch
from solov2_edge.errors import InputError, SolovEdgeError
from solov2_edge.zoo import BUNDLED, ZOO

DATA = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(DATA).hexdigest()


@dataclass
class Behaviour:
    data: bytes = DATA
    ranges: bool = True
    etag: str | None = '"v1"'
    cut_after: list[int] = field(default_factory=list)  # bytes to send per answer before closing; then no more cuts
    status: int = 200
    content_type: str = "application/octet-stream"
    location: str = ""
    length: bool = True
    requests: list[dict[str, str]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        behaviour: Behaviour = self.server.behaviour
        behaviour.requests.append(dict(self.headers))
        self.close_connection = True
        if behaviour.location and self.path == "/start":
            self.send_response(302)
            self.send_header("Location", behaviour.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if behaviour.status != 200:
            self.send_error(behaviour.status)
            return
        start, data = 0, behaviour.data
        wanted = self.headers.get("Range", "")
        if behaviour.ranges and wanted and self.headers.get("If-Range") == behaviour.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", behaviour.content_type)
        if behaviour.length:
            self.send_header("Content-Length", str(len(data) - start))
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        self.end_headers()
        stop = len(data)
        if behaviour.cut_after:
            stop = start + behaviour.cut_after.pop(0)
        self.wfile.write(data[start:stop])


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.behaviour = Behaviour()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.url = f"http://127.0.0.1:{running.server_address[1]}/weights.pth"
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights.pth"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(server, target):
    seen = []
    result = fetch(
        server.url, target, sha256_prefix=DIGEST[:8], progress=lambda done, total: seen.append((done, total))
    )
    assert target.read_bytes() == DATA
    assert (result.path, result.sha256, result.from_cache, result.hash_published) == (target, DIGEST, False, True)
    assert names(target.parent) == ["weights.pth", "weights.pth.sha256"]
    assert (target.parent / "weights.pth.sha256").read_text() == f"{DIGEST}  weights.pth\n"
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_second_time_nothing_is_fetched(server, target):
    fetch(server.url, target)
    result = fetch(server.url, target)
    assert (result.from_cache, result.sha256, result.hash_published) == (True, DIGEST, False)
    assert len(server.behaviour.requests) == 1


def test_a_cut_connection_is_resumed_in_the_next_run(server, target):
    server.behaviour.cut_after = [300_000]
    with pytest.raises(SolovEdgeError, match=r"\d+ bytes are kept, run this again to resume"):
        fetch(server.url, target, attempts=1)
    part = target.with_name("weights.pth.part")
    assert part.read_bytes() == DATA[:300_000]
    assert not target.exists()
    fetch(server.url, target, sha256_prefix=DIGEST[:8])
    assert target.read_bytes() == DATA
    assert server.behaviour.requests[1]["Range"] == "bytes=300000-"
    assert server.behaviour.requests[1]["If-Range"] == '"v1"'


def test_a_connection_that_is_cut_twice_is_resumed_in_one_run(server, target):
    server.behaviour.cut_after = [300_000, 400_000]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert [request.get("Range") for request in server.behaviour.requests] == [None, "bytes=300000-", "bytes=700000-"]


def test_no_progress_ends_the_attempts(server, target):
    server.behaviour.cut_after = [100, 0, 0, 0, 0]
    with pytest.raises(SolovEdgeError):
        fetch(server.url, target, attempts=9)
    assert len(server.behaviour.requests) == 2


def test_a_server_without_ranges_starts_over(server, target):
    server.behaviour.ranges = False
    server.behaviour.cut_after = [300_000]
    fetch(server.url, target, sha256_prefix=DIGEST[:8])
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_appended(server, target, etag):
    server.behaviour.etag = etag
    server.behaviour.cut_after = [300_000]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert all("Range" not in request for request in server.behaviour.requests)


def test_a_file_that_changed_meanwhile_comes_whole(server, target):
    server.behaviour.cut_after = [300_000]
    with pytest.raises(SolovEdgeError):
        fetch(server.url, target, attempts=1)
    server.behaviour.data, server.behaviour.etag = DATA[::-1], '"v2"'
    fetch(server.url, target)
    assert target.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 10])
def test_a_part_that_is_too_long_starts_over(server, target, size):
    target.with_name("weights.pth.part").write_bytes(bytes(size))
    target.with_name("weights.pth.part.tag").write_text('"v1"')
    fetch(server.url, target, sha256_prefix=DIGEST[:8])
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("tag", ["", "\x00\n\r", "ünï", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
def test_a_damaged_note_about_the_part_is_ignored(server, target, tag):
    target.with_name("weights.pth.part").write_bytes(b"old")
    target.with_name("weights.pth.part.tag").write_text(tag)
    fetch(server.url, target)
    assert target.read_bytes() == DATA


def test_another_hash_is_refused_and_removed(server, target):
    with pytest.raises(InputError, match=rf"SHA-256 {DIGEST[:16]}\.\.\., expected 12345678"):
        fetch(server.url, target, sha256_prefix="12345678")
    assert names(target.parent) == []


def test_a_file_that_changed_on_disk_is_noticed(server, target):
    fetch(server.url, target)
    target.write_bytes(b"tampered")
    with pytest.raises(InputError, match="it changed or is damaged"):
        fetch(server.url, target)
    with pytest.raises(InputError, match="expected"):
        fetch(server.url, target, sha256_prefix=DIGEST[:8])


@pytest.mark.parametrize(("status", "text"), [(404, "not there any more"), (403, "browser"), (500, "try again later")])
def test_http_errors_are_one_sentence(server, target, status, text):
    server.behaviour.status = status
    with pytest.raises(SolovEdgeError, match=f"answers {status} .*{text}"):
        fetch(server.url, target)
    assert names(target.parent) == []


def test_a_web_page_instead_of_the_file(server, target):
    server.behaviour.content_type = "text/html; charset=utf-8"
    with pytest.raises(InputError, match="a web page, not a file"):
        fetch(server.url, target)
    assert names(target.parent) == []


def test_sizes_are_bounded(server, target, monkeypatch):
    monkeypatch.setattr(transfer, "LARGEST", 1000)
    with pytest.raises(InputError, match="more than any checkpoint"):
        fetch(server.url, target)
    server.behaviour.length = False
    with pytest.raises(InputError, match="than any checkpoint"):
        fetch(server.url, target)
    assert not target.exists()


def test_a_size_nobody_announced(server, target):
    server.behaviour.length = False
    seen = []
    fetch(server.url, target, progress=lambda done, total: seen.append(total))
    assert target.read_bytes() == DATA
    assert set(seen) == {None}


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/x", "http://example.org/x", "data:text/plain,x", "https:///x", "x", ""],
)
def test_other_schemes_are_refused(target, url):
    with pytest.raises(InputError, match="expected an https:// address"):
        fetch(url, target)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://example.org/x", "ftp://127.0.0.1/x"])
def test_redirects_elsewhere_are_refused(server, target, location):
    server.behaviour.location = location
    with pytest.raises(InputError, match=r"a redirect from .* is refused"):
        fetch(server.url.replace("weights.pth", "start"), target)


def test_redirects_keep_the_range(server, target):
    server.behaviour.location = server.url
    server.behaviour.cut_after = [300_000]
    fetch(server.url.replace("weights.pth", "start"), target)
    assert target.read_bytes() == DATA
    assert server.behaviour.requests[-1]["Range"] == "bytes=300000-"


def test_nobody_listens(server, target):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(SolovEdgeError, match=r"could not be fetched.*check the network"):
        fetch(url, target)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SOLOV2_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SOLOV2_EDGE_CACHE")
    assert "solov2-edge" in str(cache_folder())


def test_published_entries_go_to_a_folder_per_source(server, monkeypatch, tmp_path):
    monkeypatch.setenv("SOLOV2_EDGE_CACHE", str(tmp_path))
    first = replace(ZOO["authors-full-r50-3x"], url=server.url)
    second = replace(ZOO["adelaidet-r50"], url=server.url)
    assert first.file_name == second.file_name
    paths = {download(first).path, download(second).path}
    assert paths == {tmp_path / "WXinlong-SOLO" / first.file_name, tmp_path / "aim-uofa-AdelaiDet" / first.file_name}
    assert download(first, tmp_path / "here").path == tmp_path / "here" / first.file_name


def test_a_file_in_the_folders_way(server, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="must be a folder"):
        download(replace(ZOO["adelaidet-r50"], url=server.url), tmp_path / "x")


def test_the_bundled_one_needs_no_network(monkeypatch, tmp_path):
    file = tmp_path / BUNDLED.file_name
    file.write_bytes(DATA)
    monkeypatch.setattr(module, "bundled_path", lambda: file)
    result = download(BUNDLED)
    assert (result.path, result.sha256, result.from_cache) == (file, DIGEST, True)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Writes down what it is asked to connect to, and refuses."""

    def log_message(self, *args):
        pass

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(502)

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_error(502)


@pytest.fixture
def proxy(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_https_goes_through_the_proxy_of_the_environment(proxy, target, monkeypatch, variable):
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_address[1]}")
    with pytest.raises(SolovEdgeError, match="could not be fetched: Tunnel connection failed: 502"):
        fetch("https://weights.invalid/net.pth", target)
    assert proxy.asked == ["weights.invalid:443"]
    assert not target.exists()


def test_no_proxy_names_hosts_to_reach_directly(proxy, target, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "elsewhere.example,weights.invalid")
    looked_up = []

    def refuse(host, *args, **options):
        looked_up.append(host)
        raise OSError("no such host")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(SolovEdgeError, match="no such host"):
        fetch("https://weights.invalid/net.pth", target)
    assert looked_up == ["weights.invalid"]
    assert proxy.asked == []


def test_this_machine_is_never_asked_for_through_a_proxy(proxy, server, target, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
    assert fetch(server.url, target).sha256 == DIGEST
    assert proxy.asked == []


def test_a_full_disk_is_not_taken_for_the_network(server, target, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(server.url, target)
    assert len(server.behaviour.requests) == 1, "trying again does not help"
    assert not target.exists()
