"""The names that a server of this machine goes by, as the header Host has them.

A page may let its own name point at this machine, and a browser then takes what it is given here
for the page's own. So a request is answered only under names that no page of elsewhere can have.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["OwnHosts"]

# A name, or an address; IPv6 stands in brackets (RFC 3986, 3.2.2). Then a port, or none.
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~-]+))(?::[0-9]*)?")
# Names that are resolved on the machine, or in a cluster; no registrar gives them away.
_INNER: Final = (".localhost", ".internal", ".svc", ".svc.cluster.local")


class OwnHosts:
    """Says whether a name is this server's.

    Addresses are, for a name is what the attack needs, and so are names without a dot, which are
    found on the machine or its own network: probes and scrapes come that way. Beside them, what
    the machine calls itself, in its own files: what a network says of it is not asked.

    Args:
        allowed: Further names; `*.example.com` is every name below one, `*` any host at all.
        bound: The host that the server listens at.
        table: The machine's table of names.
    """

    def __init__(
        self, allowed: Iterable[str] = (), bound: str = "", *, table: Path = Path("/etc/hosts")
    ) -> None:
        wanted = [name.lower().rstrip(".") for name in allowed]
        own = socket.gethostname().lower()
        self._names = frozenset((*wanted, own, f"{own}.local", bound.lower(), *_called(own, table)))
        self._endings = (*_INNER, *(name[1:] for name in wanted if name.startswith("*.")))

    def name_of(self, header: str) -> str | None:
        """Give the name or address in a header Host, without its port; None where it is none."""
        found = _HOST.fullmatch(header)
        return None if found is None else (found[1] or found[2]).lower().rstrip(".")

    def __contains__(self, name: object) -> bool:
        """Say whether a name, as `name_of` gives it, is the server's."""
        return isinstance(name, str) and (
            "*" in self._names
            or name in self._names
            or (bool(name) and "." not in name)
            or name.endswith(self._endings)
            or _is_address(name)
        )


def _called(own: str, table: Path) -> Iterator[str]:
    """Give the further names that the machine's table has for itself."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").lower().splitlines()
    except OSError:
        return
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if own in names or address.startswith("127.") or address == "::1":
            yield from names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
