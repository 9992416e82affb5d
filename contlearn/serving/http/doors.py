"""Which requests are let in: those for a name of the server, and from pages that may ask.

A browser carries a page's requests to any address. A page of elsewhere cannot read the answer, but
what it posts would fill log and inbox: so a request that changes or logs something must not come
from one (headers Origin and Sec-Fetch-Site). Of names, `contlearn.hosts` says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from contlearn.hosts import OwnHosts
from contlearn.serving.http.problems import RequestProblem

__all__ = ["Doors"]

_READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_FOREIGN: Final = (b"cross-site", b"same-site")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_KNOWN_HOSTS: Final = 1_000
_SHOWN_CHARACTERS: Final = 100


@dataclass
class Doors:
    """Checks where a request is for, and where it is from.

    Args:
        hosts: The server's names.
        origins: Pages of elsewhere that may ask, as `https://example.com`; `*` is any.
    """

    hosts: OwnHosts = field(default_factory=OwnHosts)
    origins: Sequence[str] = ()
    _let_in: set[bytes] = field(default_factory=set, init=False)

    def check(self, scope: Scope) -> None:
        """Let a request in.

        Raises:
            RequestProblem: 400 when it is for another host, 403 when it is from another page.
        """
        hosts: list[bytes] = []
        origin = site = b""
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
            host = hosts[0].decode("latin-1").lower() if hosts else ""
            self._check_origin(origin.decode("latin-1"), site, host)

    def _check_hosts(self, hosts: Sequence[bytes]) -> None:
        name = self.hosts.name_of(hosts[0].decode("latin-1"))
        if len(hosts) > 1 or name is None:
            raise RequestProblem(
                400,
                "The request has no header Host that can be read, or several.",
                where="header host",
                hint="Send one, the name or the address of the server.",
            )
        if name not in self.hosts:
            raise RequestProblem(
                400,
                f"This server does not go by the name {name[:_SHOWN_CHARACTERS]!r}.",
                where="header host",
                hint="Name it in serving.allowed_hosts, if it is the server's.",
            )
        if len(self._let_in) < _KNOWN_HOSTS:
            self._let_in.add(hosts[0])

    def _check_origin(self, origin: str, site: bytes, host: str) -> None:
        # Browsers say it of their own accord, and no page can say it for them. Where a proxy puts
        # another host in place of the one that was asked, nothing else tells.
        if site in (b"same-origin", b"none") or (not origin and site not in _FOREIGN):
            return
        given = origin.lower()
        if "*" in self.origins or given in self.origins:
            return
        scheme, _, place = given.partition("://")
        port = _DEFAULT_PORTS.get(scheme, "")
        if place and place.removesuffix(port) == host.removesuffix(port):
            return
        raise RequestProblem(
            403,
            f"A page of {origin[:_SHOWN_CHARACTERS]!r} may not ask this server.",
            where="header origin",
            hint="Name it in serving.cors_origins, if it may.",
        )
