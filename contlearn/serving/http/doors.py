"""The names that the server goes by, and the pages that it takes requests from.

A browser carries a page's requests to any address. A page may let its own name point at this
machine, and would then be taken for the server's own page: so a request must be for a name of the
server's (header Host). And a page of elsewhere may post, though it cannot read the answer: it would
fill log and inbox. So a request that changes or logs something must not come from one (header
Origin, Sec-Fetch-Site).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from contlearn.serving.http.problems import RequestProblem

__all__ = ["Doors"]

# A name, or an address; IPv6 stands in brackets (RFC 3986, 3.2.2). Then a port, or none.
_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~-]+))(?::[0-9]*)?")
# Names that nobody outside can point at an address: they are resolved here, or in a cluster.
_INNER: Final = (".localhost", ".internal", ".svc", ".svc.cluster.local")
_READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_FOREIGN: Final = (b"cross-site", b"same-site")
_KNOWN_HOSTS: Final = 1_000
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_SHOWN_CHARACTERS: Final = 100


@dataclass
class Doors:
    """Checks where a request is for, and where it is from.

    Addresses are let in as a host, for a name is what the attack needs, and so are names without a
    dot, which are found on the machine or its own network; probes and scrapes come that way.

    Args:
        hosts: Further names; `*.example.com` is every name below one, `*` any host at all.
        origins: Pages of elsewhere that may ask, as `https://example.com`; `*` is any.
        bound: The host that the server listens at.
    """

    hosts: Iterable[str] = ()
    origins: Iterable[str] = ()
    bound: str = ""
    _names: frozenset[str] = field(init=False)
    _endings: tuple[str, ...] = field(init=False)
    _origins: frozenset[str] = field(init=False)
    _let_in: set[bytes] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        wanted = [host.lower().rstrip(".") for host in self.hosts]
        own = socket.gethostname().lower()
        self._names = frozenset((*wanted, own, f"{own}.local", self.bound.lower()))
        self._endings = (*_INNER, *(host[1:] for host in wanted if host.startswith("*.")))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in self.origins)

    def check(self, scope: Scope) -> None:
        """Let a request in.

        Raises:
            RequestProblem: 400 when it is for another host, 403 when it is from another page.
        """
        hosts, origin, site = [], b"", b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        # Every browser sends one; programs of HTTP/1.0 may leave it out.
        if len(hosts) > 1 or (hosts and hosts[0] not in self._let_in):
            self._check_hosts(hosts)
        if (origin or site) and scope["method"] not in _READING:
            self._check_origin(origin.decode("latin-1"), site, hosts)

    def _check_hosts(self, hosts: list[bytes]) -> None:
        found = _HOST.fullmatch(hosts[0])
        if len(hosts) > 1 or found is None:
            raise RequestProblem(
                400,
                "The request has no header Host that can be read, or several.",
                where="header host",
                hint="Send one, the name or the address of the server.",
            )
        name = (found[1] or found[2]).decode("ascii").lower().rstrip(".")
        if not self._is_own(name):
            raise RequestProblem(
                400,
                f"This server does not go by the name {name[:_SHOWN_CHARACTERS]!r}.",
                where="header host",
                hint="Name it in serving.allowed_hosts, if it is the server's.",
            )
        if len(self._let_in) < _KNOWN_HOSTS:
            self._let_in.add(hosts[0])

    def _is_own(self, name: str) -> bool:
        return (
            "*" in self._names
            or name in self._names
            or "." not in name
            or name.endswith(self._endings)
            or _is_address(name)
        )

    def _check_origin(self, origin: str, site: bytes, hosts: list[bytes]) -> None:
        # Browsers say it of their own accord, and no page can say it for them. Where a proxy puts
        # another host in place of the one that was asked, nothing else tells.
        if site in (b"same-origin", b"none") or (not origin and site not in _FOREIGN):
            return
        given = origin.lower()
        if "*" in self._origins or given in self._origins:
            return
        scheme, _, place = given.partition("://")
        ends = _DEFAULT_PORTS.get(scheme, "")
        host = hosts[0].decode("latin-1").lower() if hosts else ""
        if place and place.removesuffix(ends) == host.removesuffix(ends):
            return
        raise RequestProblem(
            403,
            f"A page of {origin[:_SHOWN_CHARACTERS]!r} may not ask this server.",
            where="header origin",
            hint="Name it in serving.cors_origins, if it may.",
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
