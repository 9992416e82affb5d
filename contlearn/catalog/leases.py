"""Leases: one holder at a time, also across machines, taken over after expiry.

Who takes a lease changes its row only if it is still as it was read: the token and the expiry are
part of the condition, and the number of changed rows decides. On a database server time is that
of the server, because hosts' clocks differ; in a SQLite file it is the host's, which somebody may
set and which a container may not share, so that a lease there is only called expired after it was
seen unchanged for its whole time by the running clock of whoever wants it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from contlearn.catalog.database import Catalog
from contlearn.catalog.rows import insert_if_absent
from contlearn.catalog.schema import leases
from contlearn.errors import ContlearnError, LeaseLost, WorkspaceLocked
from contlearn.processes.facts import current_owner, life_of, pid_of

__all__ = [
    "CYCLE_LEASE",
    "DAEMON_LEASE",
    "LeaseHolder",
    "current_owner",
    "hold_lease",
    "holder_of",
    "lease_lost",
    "read_leases",
    "require_lease",
    "wait_for_lease",
]

# Of whoever runs an update, and of the daemon of a workspace.
CYCLE_LEASE: Final = "update"
DAEMON_LEASE: Final = "daemon"
_log: Final = logging.getLogger("contlearn.leases")
# Runs on while the machine sleeps, where there is such a clock.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease, for what, until when (seconds since the epoch)."""

    owner: str
    purpose: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """A lease's row, and the time of the same clock that its expiry was written by."""

    owner: str
    token: int
    expires_at: float
    purpose: str
    now: float

    @property
    def key(self) -> tuple[int, float]:
        """What changes with every holder and every renewal."""
        return self.token, self.expires_at

    @property
    def is_free(self) -> bool:
        """Whether it was given back, or its holder is gone for certain."""
        return self.expires_at == 0.0 or life_of(self.owner) == "gone"


def holder_of(catalog: Catalog, name: str) -> LeaseHolder | None:
    """Give the live holder of a lease, or None."""
    row = _row(catalog, name)
    if row is None or row.expires_at < row.now or row.is_free:
        return None
    return LeaseHolder(row.owner, row.purpose, row.expires_at)


def read_leases(catalog: Catalog) -> dict[str, tuple[str, tuple[int, float]]]:
    """Give every lease that was not given back: its owner, and what a renewal changes."""
    with catalog.read() as connection:
        rows = connection.execute(sa.select(leases).where(leases.c.expires_at > 0.0)).all()
    return {row.name: (row.owner, (row.token, row.expires_at)) for row in rows}


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
            long, or when a server could not be reached for so long that somebody else may have:
            the holder must stop at once.
    Yields:
        The fencing token: larger than that of every earlier holder.
    Raises:
        WorkspaceLocked: When a live process holds it.
    """
    token = _take(catalog, name, purpose=purpose, seconds=seconds, heartbeat=heartbeat_seconds)
    stop = threading.Event()
    gone = lost or threading.Event()
    renewal = _Renewal(catalog, name, token, seconds=seconds)

    def renew() -> None:
        while not stop.wait(heartbeat_seconds):
            if not renewal.try_once():
                gone.set()
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


class _Renewal:
    """Renews one lease, and says when it is not ours any more."""

    def __init__(self, catalog: Catalog, name: str, token: int, *, seconds: float) -> None:
        self._catalog, self._name, self._token, self._seconds = catalog, name, token, seconds
        self._renewed_at = _running()

    def try_once(self) -> bool:
        """Renew it; False when it is lost."""
        began = _running()
        try:
            with self._catalog.write() as connection:
                _bound_idle(connection, self._seconds)
                renewed = connection.execute(
                    leases.update()
                    .where(leases.c.name == self._name, leases.c.token == self._token)
                    .where(leases.c.expires_at > 0.0)
                    .values(expires_at=_now(connection) + self._seconds)
                )
        except Exception as error:
            # A missed renewal is made up for by the next: the lease outlives several of them.
            _log.warning("lease not renewed", extra={"lease": self._name, "error": str(error)})
            # Nobody can take it over in a file that is locked; on a server somebody can.
            return self._catalog.is_file or _running() - self._renewed_at < self._seconds
        if renewed.rowcount == 0:
            return False
        self._renewed_at = began
        return True


def require_lease(catalog: Catalog, name: str, token: int) -> None:
    """Check that a lease is still ours, before something that only its holder may do.

    Raises:
        LeaseLost: When it was taken over.
    """
    row = _row(catalog, name)
    if row is None or row.token != token or row.expires_at == 0.0:
        raise lease_lost(catalog, name)


def lease_lost(catalog: Catalog, name: str) -> LeaseLost:
    """Make the error that says that a lease is not ours any more, and who has it."""
    holder = None
    with contextlib.suppress(ContlearnError):
        holder = holder_of(catalog, name)
    what = f"The lease {name!r} of this process ran out, and its work stopped"
    if holder is not None and holder.owner != current_owner():
        what += f": {_who(holder.owner)} has taken over"
    return LeaseLost(
        f"{what}.",
        where=f"lease {name!r} in {catalog.place}",
        hint="This process stood still, or could not reach the catalog, for longer than "
        "update.lease_seconds. Nothing is lost: whoever holds the lease now goes on, else the same "
        "command takes the work up again.",
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

    A holder that cannot be seen from here is judged by this process's own running clock: it is gone
    when it has not renewed for `seconds`, whatever the two clocks on the wall say. While another
    process writes into a SQLite file nobody can renew, and nobody is judged.

    Returns:
        False when `stop` was set first.
    """
    seen: tuple[int, float] | None = None
    waited, excused = _Waited(seconds, heartbeat_seconds), False
    while not stop.is_set():
        row = _row(catalog, name)
        if row is None or row.is_free:
            return True
        waited.go_on()
        if row.key != seen:
            seen, waited.seconds, excused = row.key, 0.0, False
        elif waited.seconds > seconds:
            if catalog.writers():
                excused = True
            elif excused:
                # It could not renew until now: it has two heartbeats to do so.
                waited.seconds, excused = seconds - 2 * heartbeat_seconds, False
            elif _expire(catalog, name, row):
                return True
        stop.wait(heartbeat_seconds)
    return False


class _Waited:
    """How long somebody has waited, by its own running clock.

    Of a pause in which it stood still itself little counts: the holder may have done so too, as in
    a machine that sleeps or a container that was frozen, and must be able to renew when both wake.
    """

    def __init__(self, seconds: float, heartbeat: float) -> None:
        self._most = max(2 * heartbeat, seconds / 4)
        self._at = _running()
        self.seconds = 0.0

    def go_on(self) -> None:
        """Count the time since the last call."""
        now = _running()
        self.seconds += min(now - self._at, self._most)
        self._at = now


def _expire(catalog: Catalog, name: str, row: _Seen) -> bool:
    """Take a lease from a holder that stands still: it notices when it wakes up."""
    with catalog.write() as connection:
        _bound_idle(connection, 30.0)
        changed = connection.execute(_as_seen(name, row).values(expires_at=0.0))
    return changed.rowcount == 1


def _take(catalog: Catalog, name: str, *, purpose: str, seconds: float, heartbeat: float) -> int:
    """Write this process down as the holder.

    Raises:
        WorkspaceLocked: When a live process holds it.
    """
    while True:
        row = _row(catalog, name)
        if row is None:
            with catalog.write() as connection:
                empty = {"owner": "", "token": 0, "expires_at": 0.0, "purpose": ""}
                insert_if_absent(connection, leases, {"name": name, **empty})
            continue
        if not row.is_free:
            if not _looks_expired(catalog, row, seconds):
                raise _locked(name, row)
            # On a server the clock is one, and only a step of it is made up for.
            patience = seconds if catalog.is_file else min(1.5 * heartbeat, seconds)
            changed = _watch(catalog, name, row, patience, heartbeat)
            if changed is not None:
                if changed.is_free:
                    continue
                raise _locked(name, changed)
        with catalog.write() as connection:
            _bound_idle(connection, seconds)
            values = {
                "owner": current_owner(),
                "token": row.token + 1,
                "expires_at": _now(connection) + seconds,
                "purpose": purpose,
            }
            taken = connection.execute(_as_seen(name, row).values(values))
        if taken.rowcount == 1:
            return row.token + 1


def _looks_expired(catalog: Catalog, row: _Seen, seconds: float) -> bool:
    """Say whether it is worth watching for a sign of its holder's life."""
    if row.expires_at < row.now:
        return True
    # Further away than a lease is long: the clock of a holder that cannot be seen runs ahead.
    return (
        catalog.is_file and life_of(row.owner) == "unknown" and row.expires_at > row.now + seconds
    )


def _watch(
    catalog: Catalog, name: str, row: _Seen, patience: float, heartbeat: float
) -> _Seen | None:
    """Watch a lease by the running clock; give it as soon as it changes, None when it does not."""
    waited, pause = _Waited(patience, heartbeat), threading.Event()
    _log.info("watching a lease that seems to have expired", extra={"lease": name})
    while (left := patience - waited.seconds) > 0:
        pause.wait(min(left, heartbeat))
        waited.go_on()
        now = _row(catalog, name)
        if now is not None and (now.key != row.key or now.is_free):
            return now
    return None


def _locked(name: str, row: _Seen) -> WorkspaceLocked:
    return WorkspaceLocked(
        f"Another process ({_who(row.owner)}) is {row.purpose}.",
        where=f"lease {name!r}",
        hint="Wait until it is done (`contlearn status` shows it), then try again.",
    )


def _who(owner: str) -> str:
    return f"pid {pid_of(owner)} on {owner.split(':')[0]}"


def _row(catalog: Catalog, name: str) -> _Seen | None:
    with catalog.read() as connection:
        query = sa.select(leases, _now(connection).label("now")).where(leases.c.name == name)
        row = connection.execute(query).first()
    if row is None:
        return None
    return _Seen(row.owner, row.token, row.expires_at, row.purpose, float(row.now))


def _as_seen(name: str, row: _Seen) -> sa.Update:
    """Change the row of a lease only if it is still as it was read."""
    return (
        leases.update()
        .where(leases.c.name == name, leases.c.token == row.token)
        .where(leases.c.expires_at == row.expires_at, leases.c.owner == row.owner)
    )


def _now(connection: Connection) -> sa.ColumnElement[Any]:
    """Give the time in seconds since the epoch: the server's own, or the host's for a file."""
    if connection.dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal(time.time(), sa.Float)


def _bound_idle(connection: Connection, seconds: float) -> None:
    """Let a server end this transaction if its process stands still in it: others wait for it."""
    if connection.dialect.name == "postgresql":
        milliseconds = str(int(1000 * max(seconds / 2, 1.0)))
        connection.execute(
            sa.select(sa.func.set_config("idle_in_transaction_session_timeout", milliseconds, True))
        )


def _running() -> float:
    """Give seconds of a clock that nobody sets."""
    return time.clock_gettime(_CLOCK)
