"""Who may look at the live page: the names it is reached by, the pages that may talk to it, and the token.

Two attacks come through the browser of somebody who looks at another page meanwhile. A cross-site page opens a
WebSocket to the address it guesses: its Origin is not ours. A page whose own name is made to resolve to our address
(DNS rebinding) is of one origin with us: the Host it asks for is not ours.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from solov2_edge.errors import require

__all__ = ["Access", "Refusal", "access_for", "is_loopback", "new_token"]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered: an HTTP status and one sentence."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one server.

    Attributes:
        names: host names it is reached by, in lower case.
        loopback: it is bound to this machine alone: of numeric addresses, only loopback's are its own. Elsewhere every
            numeric address passes; a rebound page has a name, and a name that is not ours is refused.
        token: what a request must carry, or "" where everybody on this machine may look.
        cookie: name of the cookie that carries the token once the page was opened.
    """

    names: frozenset[str]
    loopback: bool
    token: str
    cookie: str

    def __post_init__(self) -> None:
        require(
            not self.token or _TOKEN.fullmatch(self.token) is not None,
            "a token must have 16 to 128 letters, digits, - or _, so that it is hard to guess and fits into an address",
        )
        require(
            bool(self.token) or self.loopback, "a page that other machines reach needs a token; give none to get one"
        )

    def refuse(self, path: str, headers: Mapping[str, Sequence[str]]) -> Refusal | None:
        """Return why a request may not pass, or None where it may.

        Args:
            path: of the request, with its query.
            headers: all values per name, names in lower case.
        """
        hosts = headers.get("host", ())
        if len(hosts) != 1 or not self._own(hosts[0]):
            return Refusal(
                421, f"this page is not served under that name; ask for one of {', '.join(sorted(self.names))}"
            )
        for origin in headers.get("origin", ()):
            if not _same_origin(origin, hosts[0]):
                return Refusal(403, "another site's page may not use this one")
        fetched = headers.get("sec-fetch-site", ())
        if "navigate" not in headers.get("sec-fetch-mode", ()) and {"cross-site", "same-site"} & set(fetched):
            return Refusal(403, "another site's page may not use this one")
        if self.token and not self._known(path, headers):
            return Refusal(401, "open the address that the program printed: it ends in ?token=...")
        return None

    def _own(self, host: str) -> bool:
        if _HOST.fullmatch(host) is None:
            return False
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback

    def _known(self, path: str, headers: Mapping[str, Sequence[str]]) -> bool:
        given = parse_qs(path.partition("?")[2]).get("token", [])[:4]
        given += [value[7:] for value in headers.get("authorization", ()) if value[:7].lower() == "bearer "]
        for cookies in headers.get("cookie", ()):
            pairs = [pair.strip().partition("=") for pair in cookies.split(";")]
            given += [value for name, _, value in pairs if name == self.cookie]
        # Every one is compared, in a time that does not tell how much of it is right.
        right = [hmac.compare_digest(word.encode(), self.token.encode()) for word in given]
        return any(right)

    def set_cookie(self) -> str:
        """Return the Set-Cookie header that keeps the token in the browser for as long as it runs."""
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"


def access_for(host: str, port: int, token: str | None = None) -> Access:
    """Return the rules of a server bound to ``host``.

    Args:
        host: name or numeric address; ``0.0.0.0`` and ``::`` are all of this machine's.
        port: of the server; cookies are shared among the ports of a host, so it goes into the cookie's name.
        token: 16 to 128 letters, digits, - or _; "" is none, which only loopback may have. Default: none on loopback, a
            random one elsewhere.

    Raises:
        InputError: a token that could be guessed, or none where other machines reach the page.
    """
    loopback = is_loopback(host)
    if token is None:
        token = "" if loopback else new_token()
    names = {"localhost", host.lower().rstrip(".")}
    if not loopback:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local"}
    return Access(frozenset(names - {"0.0.0.0", "::", ""}), loopback, token, f"solov2-edge-{port}")


def is_loopback(host: str) -> bool:
    """Tell whether an address reaches this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token nobody guesses: 192 random bits."""
    return secrets.token_urlsafe(24)


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:  # brackets without an address
        return False
    # A proxy that adds TLS keeps the host and changes the scheme.
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
