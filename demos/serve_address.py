"""Where the live page is bound to, and the address it is opened at."""

from __future__ import annotations

import errno
import socket

from solov2_edge.errors import InputError, require

__all__ = ["bind", "page_address"]

EVERYWHERE = ("0.0.0.0", "::")
# Reserved for documentation (RFC 5737): nothing is sent there, the system is only asked which way it would go.
FAR_AWAY = ("192.0.2.1", 9)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: name or numeric address of this machine.
        port: 0..65535; 0 is any free one.

    Raises:
        InputError: no such port or host, or somebody else has it.
    """
    require(
        isinstance(port, int) and not isinstance(port, bool) and 0 <= port <= 65535,
        f"a port must be a whole number from 0 to 65535, got {port!r}",
    )
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # "::" is every address; else IPv6's own kind of it would leave the older ones out.
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"the host {host!r} cannot be found; give this machine's name or address") from error
    except OSError as error:
        raise InputError(_reason(host, port, error)) from error


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program; choose another one, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"the system does not give port {port} to this user; choose one from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; give one that it has, or 0.0.0.0 for all of them"
    return f"nothing can be served at port {port} of {host}: {error.strerror or error}"


def page_address(host: str, port: int, token: str) -> str:
    """Return what to open in a browser; for all addresses of this machine, the one other machines see."""
    name = _own_address() if host in EVERYWHERE else host
    name = "localhost" if name == "127.0.0.1" else name
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(FAR_AWAY)
            return str(way.getsockname()[0])
        except OSError:  # no network: this machine alone can look
            return "127.0.0.1"
