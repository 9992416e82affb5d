"""Who holds a lock of the workspace and stands still: said at once, and ended where that is safe.

A process that is stopped (SIGSTOP, Ctrl-Z, a frozen container) in the middle of a write to a
SQLite catalog keeps its lock, and nobody else can write, not even to take over its lease. The same
holds for the locks on files that daemons share. The kernel lets go of all of them when the process
ends, and whatever is ended at any moment is taken up again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.catalog.leases import read_leases
from contlearn.context import Context
from contlearn.daemon.alerts import Alerts
from contlearn.errors import ContlearnError, StorageError
from contlearn.processes.facts import (
    command_of,
    end_process,
    file_locks,
    is_or_descends_from,
    is_stopped,
    life_of,
    pid_of,
    progress_of,
    start_time,
)

__all__ = ["Guard"]

_LOOK_SECONDS: Final = 2.0
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(slots=True)
class _Holder:
    """Another process that holds a lock, and since when nothing of it moves."""

    pid: int
    started: str
    locks: tuple[str, ...]
    progress: tuple[int, ...] | None
    since: float
    is_stopped: bool = False
    was_told: bool = False

    def words(self) -> str:
        """Say who it is and what it holds."""
        how = "was stopped" if self.is_stopped else "does not move"
        command = command_of(self.pid) or "its command cannot be seen"
        return f"process {self.pid} ({command}) {how} and holds {', '.join(self.locks)}"


class Guard:
    """Watches the locks of one workspace while its daemon works or stands by.

    Args:
        context: The opened workspace.
        alerts: Who is told.
        log: Where it is logged.
        files: Further files whose locks matter.
    """

    def __init__(self, context: Context, alerts: Alerts, log: Any, files: Iterable[Path]) -> None:
        self._context, self._alerts, self._log = context, alerts, log
        self._files = tuple(files)
        self._holders: dict[int, _Holder] = {}
        # Of each lease: its owner, what a renewal changes, and since when that is so.
        self._leases: dict[str, tuple[str, tuple[int, float], float]] = {}
        self._looked_at = time.clock_gettime(_CLOCK)
        self.problem: str | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look again and again while the block runs, in a thread of its own."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(self._pause()):
                try:
                    self.look()
                except Exception:
                    # It only looks after others: a bug in it must not end the daemon.
                    self._log.exception("the locks could not be looked at")

        thread = threading.Thread(target=work, name="guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5.0)

    def look(self) -> None:
        """Look once: who holds what, does it move, has its lease run out."""
        if "catalog" not in self._context.__dict__:
            return  # it cannot be opened, or not yet, which others say
        now = time.clock_gettime(_CLOCK)
        if now - self._looked_at > self._context.config.update.lease_seconds / 2:
            # This process stood still itself; others may have done so too, and begin anew.
            self._holders, self._leases = {}, {}
        self._see_holders(now)
        still = [holder for holder in self._holders.values() if self._stands_still(holder, now)]
        # Shown before it is told: who is told looks there.
        self.problem = f"{still[0].words()}." if still else None
        for holder in still:
            if not holder.was_told:
                holder.was_told = True
                self._tell(holder)
        if any(self._context.catalog.place in holder.locks for holder in still):
            # Nobody can renew a lease now but by one look, before the stop. And who was stopped
            # between the two copies of the head of SQLite's index leaves nothing to be read.
            now -= self._pause()
        else:
            self._see_leases(now)
            now = time.clock_gettime(_CLOCK)
        for holder in still:
            if self._may_end(holder, now):
                self._end(holder)
        self._looked_at = time.clock_gettime(_CLOCK)

    # -- inside ---------------------------------------------------------------------------------

    def _pause(self) -> float:
        return min(self._context.config.update.heartbeat_seconds, _LOOK_SECONDS)

    def _see_holders(self, now: float) -> None:
        catalog = self._context.catalog
        held: dict[int, dict[str, None]] = {}
        for lock in file_locks(*self._files, *catalog.lock_files):
            if lock.path in self._files:
                held.setdefault(lock.pid, {})[str(lock.path)] = None
            elif lock.is_write:  # whoever reads a database holds nobody up
                held.setdefault(lock.pid, {})[catalog.place] = None
        seen = {}
        for pid, locks in held.items():
            started, progress = start_time(pid), progress_of(pid)
            before = self._holders.get(pid)
            if before is None or (before.started, before.progress) != (started, progress):
                seen[pid] = _Holder(pid, started, tuple(locks), progress, now)
                continue
            # Stopped at two looks and nothing done between them: it does not only pass through.
            before.is_stopped = is_stopped(pid)
            before.locks = tuple(locks)
            seen[pid] = before
        self._holders = seen

    def _stands_still(self, holder: _Holder, now: float) -> bool:
        if holder.is_stopped:
            return True
        return (
            holder.progress is not None
            and now - holder.since >= self._context.config.update.lease_seconds
        )

    def _see_leases(self, now: float) -> None:
        try:
            rows = read_leases(self._context.catalog)
        except StorageError:
            return  # what was seen before still holds: nobody can write
        self._leases = {
            name: (owner, key, self._since(name, key, now)) for name, (owner, key) in rows.items()
        }

    def _since(self, name: str, key: tuple[int, float], now: float) -> float:
        before = self._leases.get(name)
        return before[2] if before is not None and before[1] == key else now

    def _may_end(self, holder: _Holder, now: float) -> bool:
        """Say whether it is ours to end: its lease, or that of who started it, has run out.

        Who holds a lease is a process of contlearn; it is known by more than its number.
        """
        config = self._context.config
        if not config.daemon.end_stalled:
            return False
        for owner, _, since in self._leases.values():
            pid = pid_of(owner)
            if (
                pid is not None
                and now - since > config.update.lease_seconds
                and life_of(owner) == "runs"
                and is_or_descends_from(holder.pid, pid)
            ):
                return True
        return False

    def _tell(self, holder: _Holder) -> None:
        ends = "; it is ended when its lease has run out" if self._is_local(holder) else ""
        error = ContlearnError(
            f"Another {holder.words()}, so that nobody else can go on{ends}.",
            where=holder.locks[0],
            hint=f"`kill -CONT {holder.pid}` lets it go on, `kill -KILL {holder.pid}` ends it: "
            "what it was doing is taken up again.",
        )
        self._log.error("a process stands still and holds a lock", **error.to_json())
        self._alert("stalled", "a process stands still and holds a lock", error)

    def _is_local(self, holder: _Holder) -> bool:
        if not self._context.config.daemon.end_stalled:
            return False
        pids = [pid_of(owner) for owner, _, _ in self._leases.values() if life_of(owner) == "runs"]
        return any(pid is not None and is_or_descends_from(holder.pid, pid) for pid in pids)

    def _end(self, holder: _Holder) -> None:
        said = holder.words()
        if not end_process(holder.pid, holder.started):
            return
        del self._holders[holder.pid]
        error = ContlearnError(
            f"Another {said}, and its lease ran out: it was ended.",
            where=holder.locks[0],
            hint="What it was doing is taken up again. `daemon.end_stalled = false` leaves such a "
            "process alone.",
        )
        self._log.error("a process that stood still was ended", pid=holder.pid, **error.to_json())
        self._alert("ended", "a process that stood still was ended", error)

    def _alert(self, name: str, subject: str, error: ContlearnError) -> None:
        """Tell people at once: who would do so otherwise may be the one that stands still."""

        def tell() -> None:
            with contextlib.suppress(Exception):
                self._alerts.alert(name, subject, error)
                self._alerts.deliver()

        threading.Thread(target=tell, name="guard-alert", daemon=True).start()
