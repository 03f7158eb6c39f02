from __future__ import annotations

import pytest

from solov2_edge.demos.serve_access import Access, access_for, is_loopback, new_token
from solov2_edge.errors import InputError

TOKEN = "abcdefghijklmnop0123456789-_"
Headers = dict[str, list[str]]


def asked(host: str, **more: str) -> Headers:
    return {"host": [host], **{name.replace("_", "-"): [value] for name, value in more.items()}}


@pytest.fixture
def here() -> Access:
    return access_for("127.0.0.1", 8080)


@pytest.fixture
def elsewhere() -> Access:
    return access_for("0.0.0.0", 8080, TOKEN)


@pytest.mark.parametrize(
    "host", ["localhost:8080", "localhost", "LOCALHOST:9000", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "localhost."]
)
def test_loopback_answers_to_its_own_names_on_any_port(here: Access, host: str) -> None:
    assert here.token == ""
    assert here.refuse("/", asked(host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "localhost.evil.example", "192.168.0.4", "0.0.0.0:8080", "[fe80::1]",
        "", "localhost:", "localhost/x", "a@localhost", "localhost:8080:1", "[", "[]", "[::1", "localhost\t", "1",
    ],
)  # fmt: skip
def test_loopback_refuses_every_other_name(here: Access, host: str) -> None:
    refusal = here.refuse("/", asked(host))
    assert refusal is not None
    assert refusal.status == 421
    assert "localhost" in refusal.message


def test_a_request_has_exactly_one_host(here: Access) -> None:
    several: list[Headers] = [{}, {"host": []}, {"host": ["localhost", "localhost"]}]
    for headers in several:
        refusal = here.refuse("/", headers)
        assert refusal is not None
        assert refusal.status == 421


@pytest.mark.parametrize("host", ["192.168.0.4:8080", "[fe80::1]:8080", "localhost", "127.0.0.1"])
def test_elsewhere_every_numeric_address_passes_with_the_token(elsewhere: Access, host: str) -> None:
    assert elsewhere.refuse(f"/?token={TOKEN}", asked(host)) is None


def test_elsewhere_the_name_of_this_machine_passes(elsewhere: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Robot")
    access = access_for("0.0.0.0", 8080, TOKEN)
    assert access.refuse(f"/?token={TOKEN}", asked("robot:8080")) is None
    assert access.refuse(f"/?token={TOKEN}", asked("robot.local:8080")) is None
    assert access_for("robot.lan", 8080, TOKEN).refuse(f"/?token={TOKEN}", asked("robot.lan:8080")) is None
    for other in ("evil.example", "robot.evil.example"):
        refusal = elsewhere.refuse(f"/?token={TOKEN}", asked(other))
        assert refusal is not None
        assert refusal.status == 421


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://localhost:8080", True),
        ("https://localhost:8080", True),
        ("http://LOCALHOST:8080", True),
        ("http://localhost:8081", False),
        ("http://localhost", False),
        ("http://127.0.0.1:8080", False),
        ("http://evil.example", False),
        ("http://evil.example/localhost:8080", False),
        ("http://a@localhost:8080", False),
        ("null", False),
        ("file://", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_its_own_page_may_talk_to_it(here: Access, origin: str, passes: bool) -> None:
    refusal = here.refuse("/live", asked("localhost:8080", origin=origin))
    assert (refusal is None) == passes
    assert refusal is None or refusal.status == 403


@pytest.mark.parametrize(
    ("site", "mode", "passes"),
    [
        ("same-origin", "no-cors", True),
        ("none", "navigate", True),
        ("cross-site", "navigate", True),  # a link to the page
        ("cross-site", "no-cors", False),  # its snapshot as a picture of theirs
        ("same-site", "no-cors", False),  # another port of this machine
        ("cross-site", "websocket", False),
    ],
)
def test_another_site_may_link_to_the_page_and_embed_nothing(here: Access, site: str, mode: str, passes: bool) -> None:
    refusal = here.refuse("/snapshot.png", asked("localhost:8080", sec_fetch_site=site, sec_fetch_mode=mode))
    assert (refusal is None) == passes


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (f"/?token={TOKEN}", {}),
        (f"/live?x=1&token={TOKEN}", {}),
        ("/", {"cookie": f"a=b; solov2-edge-8080={TOKEN}; c=d"}),
        ("/", {"authorization": f"Bearer {TOKEN}"}),
        ("/", {"authorization": f"bearer {TOKEN}"}),
        (f"/?token=wrong&token={TOKEN}", {}),
    ],
)
def test_the_token_passes(elsewhere: Access, path: str, more: dict[str, str]) -> None:
    assert elsewhere.refuse(path, asked("10.0.0.2:8080", **more)) is None


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/", {}),
        ("/?token=", {}),
        (f"/?token={TOKEN[:-1]}", {}),
        (f"/?token={TOKEN}x", {}),
        (f"/?Token={TOKEN}", {}),
        ("/?token=%C3%A9%00", {}),
        (f"/{TOKEN}", {}),
        ("/?" + "token=x&" * 4 + f"token={TOKEN}", {}),  # no guessing by the hundred
        ("/", {"cookie": f"solov2-edge-8081={TOKEN}"}),  # of the server on another port
        ("/", {"cookie": f"solov2-edge-8080={TOKEN[1:]}"}),
        ("/", {"authorization": f"Basic {TOKEN}"}),
        ("/", {"authorization": TOKEN}),
    ],
)
def test_nothing_else_passes(elsewhere: Access, path: str, more: dict[str, str]) -> None:
    refusal = elsewhere.refuse(path, asked("10.0.0.2:8080", **more))
    assert refusal is not None
    assert refusal.status == 401
    assert TOKEN not in refusal.message


def test_a_token_given_for_loopback_is_asked_for_too() -> None:
    access = access_for("localhost", 8080, TOKEN)
    refusal = access.refuse("/", asked("localhost:8080"))
    assert refusal is not None
    assert refusal.status == 401


def test_elsewhere_has_a_token_of_its_own() -> None:
    first, second = access_for("0.0.0.0", 1), access_for("0.0.0.0", 1)
    assert first.token != second.token
    assert len(first.token) >= 32
    assert new_token() != new_token()


@pytest.mark.parametrize(
    "token", ["short", "spaces are not allowed", "x" * 129, "ünïcödé-ünïcödé-", 'quote"quote"quote']
)
def test_a_token_that_could_be_guessed_or_does_not_fit_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="16 to 128"):
        access_for("0.0.0.0", 8080, token)


def test_elsewhere_cannot_do_without_a_token() -> None:
    with pytest.raises(InputError, match="needs a token"):
        access_for("0.0.0.0", 8080, "")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("Localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.1", False), ("robot", False)],
)  # fmt: skip
def test_what_reaches_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_the_cookie_is_for_this_page_alone(elsewhere: Access) -> None:
    assert elsewhere.set_cookie() == f"solov2-edge-8080={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
