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
from typing import Any

import sqlalchemy as sa

from contlearn.catalog.database import Catalog
from contlearn.catalog.schema import leases
from contlearn.errors import ContlearnError, WorkspaceLocked

__all__ = [
    "LeaseHolder",
    "current_owner",
    "hold_lease",
    "holder_of",
    "is_alive",
    "wait_for_lease",
]


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
    fields = stat.rpartition(")")[2].split()
    # A zombie works no more: it only waits for its parent to ask how it ended.
    return "" if fields[0] in "ZX" else fields[19]


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
    lost: threading.Event | None = None,
) -> Iterator[int]:
    """Hold a lease while the block runs; a thread renews it.

    Args:
        catalog: Where it stands.
        name: Of the lease.
        purpose: What for, in words that follow "is".
        seconds: It is free again so long after the last renewal.
        heartbeat_seconds: Between renewals.
        lost: Set when somebody else has taken it over, because this process stood still for too
            long: the holder must stop at once.
    Yields:
        The fencing token: larger than that of every earlier holder.
    Raises:
        WorkspaceLocked: When a live process holds it.
    """
    token = _take(catalog, name, purpose=purpose, seconds=seconds, heartbeat=heartbeat_seconds)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(heartbeat_seconds):
            # A missed renewal is made up for by the next; the lease outlives several of them.
            with contextlib.suppress(ContlearnError), catalog.write() as connection:
                renewed = connection.execute(
                    leases.update()
                    .where(leases.c.name == name, leases.c.token == token)
                    .where(leases.c.expires_at > 0.0)
                    .values(expires_at=time.time() + seconds)
                )
                if renewed.rowcount == 0:
                    if lost is not None:
                        lost.set()
                    return

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


def wait_for_lease(
    catalog: Catalog,
    name: str,
    *,
    seconds: float,
    heartbeat_seconds: float,
    stop: threading.Event,
) -> bool:
    """Stand by until a lease is free or its holder is gone.

    A holder on another machine is judged by this machine's own running clock: it is gone when it
    has not renewed for `seconds`, whatever the two clocks on the wall say.

    Returns:
        False when `stop` was set first.
    """
    seen: tuple[int, float] | None = None
    since = time.monotonic()
    while not stop.is_set():
        row = _row(catalog, name)
        if row is None or row.expires_at == 0.0 or not is_alive(row.owner):
            return True
        if (row.token, row.expires_at) != seen:
            seen, since = (row.token, row.expires_at), time.monotonic()
        elif time.monotonic() - since > seconds:
            # Nobody renews it: whoever held it stands still, and notices when it wakes up.
            with catalog.write() as connection:
                connection.execute(
                    leases.update()
                    .where(leases.c.name == name, leases.c.token == row.token)
                    .where(leases.c.expires_at == row.expires_at)
                    .values(expires_at=0.0)
                )
            return True
        stop.wait(heartbeat_seconds)
    return False


def _row(catalog: Catalog, name: str) -> sa.engine.Row[Any] | None:
    with catalog.read() as connection:
        return connection.execute(sa.select(leases).where(leases.c.name == name)).first()


def _take(catalog: Catalog, name: str, *, purpose: str, seconds: float, heartbeat: float) -> int:
    """Write this process down as the holder.

    Raises:
        WorkspaceLocked: When a live process holds it.
    """
    before = _row(catalog, name)
    if before is not None and 0.0 < before.expires_at < time.time() and _is_here(before.owner):
        # Expired, but its holder lives on this machine. If the clock was set forward, it renews
        # within a heartbeat; if it stands still, it does not.
        time.sleep(min(1.5 * heartbeat, seconds))
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
            "owner": current_owner(),
            "token": token,
            "expires_at": time.time() + seconds,
            "purpose": purpose,
        }
        if row is None:
            connection.execute(leases.insert().values(name=name, **values))
        else:
            connection.execute(leases.update().where(leases.c.name == name).values(**values))
    return int(token)


def _is_here(owner: str) -> bool:
    """Say whether the owner runs on this machine now."""
    return owner.startswith(f"{socket.gethostname()[:60]}:{_boot()}:") and is_alive(owner)
