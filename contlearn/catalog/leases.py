"""Leases: one holder at a time, also across machines, taken over after expiry."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from contlearn.catalog.database import Catalog
from contlearn.catalog.schema import leases
from contlearn.errors import ContlearnError, WorkspaceLocked

__all__ = ["LeaseHolder", "current_owner", "hold_lease", "holder_of", "is_alive"]


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease, for what, until when (seconds since the epoch)."""

    owner: str
    purpose: str
    expires_at: float


def _start_time(pid: int) -> str:
    """Give when a process started, in clock ticks since boot, so that a reused pid is noticed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return ""


def current_owner() -> str:
    """Name this process: host, boot, pid and start time."""
    pid = os.getpid()
    return f"{socket.gethostname()[:60]}:{_boot()}:{pid}:{_start_time(pid)}"


def is_alive(owner: str) -> bool:
    """Say whether the owner may still run; one on another machine may, as far as we know."""
    host, boot, pid, start = owner.rsplit(":", 3)
    if host != socket.gethostname()[:60] or not start:
        return True
    return boot == _boot() and _start_time(int(pid)) == start


def holder_of(catalog: Catalog, name: str) -> LeaseHolder | None:
    """Give the live holder of a lease, or None."""
    with catalog.read() as connection:
        row = connection.execute(sa.select(leases).where(leases.c.name == name)).first()
    if row is None or row.expires_at < time.time() or not is_alive(row.owner):
        return None
    return LeaseHolder(row.owner, row.purpose, row.expires_at)


@contextlib.contextmanager
def hold_lease(
    catalog: Catalog,
    name: str,
    *,
    purpose: str,
    seconds: float = 60.0,
    heartbeat_seconds: float = 5.0,
) -> Iterator[int]:
    """Hold a lease while the block runs; a thread renews it.

    Yields:
        The fencing token: larger than that of every earlier holder.
    Raises:
        WorkspaceLocked: When a live process holds it.
    """
    owner = current_owner()
    with catalog.write() as connection:
        row = connection.execute(sa.select(leases).where(leases.c.name == name)).first()
        if row is not None and row.expires_at >= time.time() and is_alive(row.owner):
            pid = row.owner.rsplit(":", 2)[1]
            raise WorkspaceLocked(
                f"Another process (pid {pid} on {row.owner.split(':')[0]}) is {row.purpose}.",
                where=f"lease {name!r}",
                hint="Wait until it is done (`contlearn status` shows it), then try again.",
            )
        token = 1 if row is None else row.token + 1
        values = {
            "owner": owner,
            "token": token,
            "expires_at": time.time() + seconds,
            "purpose": purpose,
        }
        if row is None:
            connection.execute(leases.insert().values(name=name, **values))
        else:
            connection.execute(leases.update().where(leases.c.name == name).values(**values))
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(heartbeat_seconds):
            # A missed renewal is made up for by the next; the lease outlives several of them.
            with contextlib.suppress(ContlearnError), catalog.write() as connection:
                connection.execute(
                    leases.update()
                    .where(leases.c.name == name, leases.c.token == token)
                    .values(expires_at=time.time() + seconds)
                )

    thread = threading.Thread(target=renew, name=f"lease-{name}", daemon=True)
    thread.start()
    try:
        yield token
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(ContlearnError), catalog.write() as connection:
            connection.execute(
                leases.update()
                .where(leases.c.name == name, leases.c.token == token)
                .values(expires_at=0.0)
            )
