"""One workspace under watch: take in, look, judge, update, tell; each round is one `step`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from contlearn.catalog.leases import (
    DAEMON_LEASE,
    hold_lease,
    lease_lost,
    require_lease,
    wait_for_lease,
)
from contlearn.config.schedule import local_day, next_scheduled
from contlearn.context import Context
from contlearn.cycle.causes import add_seconds_today, note_fired, read_fired
from contlearn.cycle.disk import disk_state, sweep
from contlearn.cycle.outcome import UpdateResult
from contlearn.cycle.scanning import scan_in_child
from contlearn.cycle.taken import refused_files
from contlearn.cycle.triggers import Trigger
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.daemon.alerts import Alerts
from contlearn.daemon.guard import Guard
from contlearn.daemon.judging import Judging
from contlearn.daemon.pacing import BackOff, Every
from contlearn.daemon.probation import Probation
from contlearn.daemon.reloading import Reloading
from contlearn.daemon.slot import UpdateSlot
from contlearn.daemon.watching import Watcher
from contlearn.errors import ContlearnError, LeaseLost, StorageError, WorkspaceLocked
from contlearn.processes.children import ChildStopped
from contlearn.version import __version__
from contlearn.workspace import write_json_atomic

__all__ = ["Watch"]

_CANNOT: Final = "the workspace cannot be watched"
_STATE_SECONDS: Final = 30.0
_SWEEP_SECONDS: Final = 3600.0
_DISK_SECONDS: Final = 300.0


@dataclass
class Watch:
    """One workspace, watched until told to stop.

    Args:
        context: The opened workspace.
        slot: The right to update, shared by all workspaces of the host.
        stop: Set to end; a running child is given `daemon.grace_seconds` to end, and its cycle is
            taken up again at the next start.
        standby: Wait for another daemon's lease instead of giving up.
        child: The module that makes a challenger, run as a process of its own.
        scan: Takes in the inbox; called as `scan_in_child`.
    """

    context: Context
    slot: UpdateSlot = field(default_factory=lambda: UpdateSlot(None))
    stop: threading.Event = field(default_factory=threading.Event)
    standby: bool = False
    child: str = "contlearn.training"
    scan: Callable[..., dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        context, clock = self.context, self.context.clock
        self._scanner = self.scan or partial(scan_in_child, told={})
        # What the last look at the inbox refused whole; what lies there still is not told again.
        self._refused: list[dict[str, Any]] = []
        self.log = structlog.get_logger("contlearn.daemon").bind(model=context.config.model.name)
        self.started_at = clock.now()
        self.beat = clock.monotonic()
        self.beat_at: float | None = None
        self.doing = "starting"
        self.scan_error: str | None = None
        self.last_error: str | None = None
        self.disk: dict[str, int | None] | None = None
        self.is_active = False
        self._lost = threading.Event()
        self._token: int | None = None
        self.alerts = Alerts(context, self.log)
        self.guard = Guard(
            context, self.alerts, self.log, [path for path in self._lock_files() if path]
        )
        self.reloading = Reloading(context, self.alerts, self.log)
        self.judging = Judging(context)
        self.probation = Probation(context)
        self.back_off = BackOff(context)
        self._state_due = Every(clock, _STATE_SECONDS)
        self._sweep_due = Every(clock, _SWEEP_SECONDS)
        self._disk_due = Every(clock, _DISK_SECONDS)
        self._probation_every = Every(clock, 0.0)
        self._look_due = Every(clock, 0.0)
        self._watcher = Watcher(context, must_stop=self.must_stop)

    @property
    def name(self) -> str:
        """The workspace's folder, which names it in queues and logs."""
        return str(self.context.workspace.root)

    def must_stop(self) -> bool:
        """Say whether work must stop: on request, or because the lease is lost.

        Whoever works asks again and again, so that asking is a sign of life.
        """
        self._show_life()
        return self.stop.is_set() or self._lost.is_set()

    def _show_life(self) -> None:
        self.beat = self.context.clock.monotonic()

    def run(self) -> None:
        """Hold the lease and work, or stand by for it, until `stop` is set.

        Raises:
            WorkspaceLocked: When another daemon watches this workspace and `standby` is off.
        """
        with self.guard.watching():
            self._run()

    def _run(self) -> None:
        while not self.stop.is_set():
            update = self.context.config.update
            self._lost.clear()
            try:
                with hold_lease(
                    self.context.catalog,
                    DAEMON_LEASE,
                    purpose="watching this workspace as its daemon",
                    seconds=update.lease_seconds,
                    heartbeat_seconds=update.heartbeat_seconds,
                    lost=self._lost,
                ) as self._token:
                    self._watch()
                if self._lost.is_set():
                    said = lease_lost(self.context.catalog, DAEMON_LEASE).to_json()
                    self.log.error("lease lost: another daemon took over", **said)
            except WorkspaceLocked as error:
                if not self.standby:
                    raise
                self.log.info("standing by", **error.to_json())
                self.doing = "standing by"
                while not self._wait_for_lease():
                    if self.stop.is_set():
                        return
            except ContlearnError as error:
                # The catalog of a network may be away for a while.
                if not self.standby:
                    raise
                self._cannot_watch(error)
                self.stop.wait(update.heartbeat_seconds)

    def reload(self) -> None:
        """Read the configuration again: a bad one is refused at once, a good one holds from the
        next step.
        """
        self.reloading.read()

    def step(self) -> UpdateResult | None:
        """Do one round; errors are logged and tried again later."""
        self._show_life()
        try:
            return self._step()
        except ChildStopped:
            return None
        except LeaseLost as error:
            self.log.warning("the round was left", **error.to_json())
        except ContlearnError as error:
            self._failed(error)
        except Exception as error:
            # A bug must not end the daemon: it is shown, and the round is tried again later.
            self.log.exception("the round failed")
            self._failed(
                ContlearnError(
                    f"{type(error).__name__}: {error}",
                    where="the daemon",
                    hint="The log has the traceback. Please report it.",
                )
            )
        return None

    def post(self) -> None:
        """Put what happened into the outbox and tell whom it may concern."""
        if self.is_active:
            self.alerts.post()

    @property
    def problem(self) -> str | None:
        """What keeps it from watching, or would; None when it can watch or stand by."""
        return self.guard.problem or (self.last_error if self.doing == _CANNOT else None)

    def begin(self) -> None:
        """Note the start: schedules count from here, and a failure of before is waited out."""
        self.log.info("daemon started", version=__version__, pid=os.getpid())
        if self.doing == _CANNOT:
            self.last_error = None
        self.doing = "starting"
        self.back_off.restore()
        if read_fired(self.context.catalog, "schedule") is None:
            # The schedule begins now: what would have been before the first start is not due.
            note_fired(self.context.catalog, "schedule", self.context.clock.now(), {"first": True})
        self.is_active = True

    # -- inside ---------------------------------------------------------------------------------

    def _lock_files(self) -> tuple[Path | None, ...]:
        """List the files whose locks hold this daemon up."""
        workspace = self.context.workspace
        return workspace.state / "ingest.lock", workspace.versions / ".lock", self.slot.path

    def _watch(self) -> None:
        self.begin()
        try:
            while not self.must_stop():
                self.step()
                self.stop.wait(self.context.config.daemon.scan_seconds)
        finally:
            self.is_active = False
            self.doing = "stopped"
            if not self._lost.is_set():
                self.write_state(running=False)
            self.log.info("daemon stopped")

    def _cannot_watch(self, error: ContlearnError) -> None:
        """Say so once, not at every try, and show it to whoever asks for our health."""
        self._show_life()
        if self.last_error != str(error) or self.doing != _CANNOT:
            self.log.error(_CANNOT, **error.to_json())
        self.doing, self.last_error = _CANNOT, str(error)

    def _wait_for_lease(self) -> bool:
        update = self.context.config.update
        try:
            return wait_for_lease(
                self.context.catalog,
                DAEMON_LEASE,
                seconds=update.lease_seconds,
                heartbeat_seconds=update.heartbeat_seconds,
                stop=self.stop,
            )
        except ContlearnError as error:
            self._cannot_watch(error)
            self.stop.wait(update.heartbeat_seconds)
            return False

    def _step(self) -> UpdateResult | None:
        context = self.context
        if self.reloading.take():
            self.judging.forget()
        self._take_in()
        self._look()
        reason = None
        if self._probation_due():
            self._require_lease()
            reason = self.probation.look(self.must_stop)
        if reason is not None:
            self.log.error("rolled back by itself", reason=reason)
            self.judging.forget()
        if self._sweep_due():
            gone = sweep(context)
            if gone:
                self.log.info("swept", files=gone)
        trigger = self.judging.next_trigger(
            waits_for=self.probation.until(), retry_in=self.back_off.left()
        )
        self.doing = self.judging.words
        if self._state_due() or self.judging.has_changed():
            self._show()
        self.post()
        if trigger is None:
            return None
        return self._update(trigger)

    def _require_lease(self) -> None:
        """Go on only as the one daemon here: this process may just have stood still for long.

        Raises:
            LeaseLost: When another has taken over.
        """
        if self._token is None:
            return
        try:
            require_lease(self.context.catalog, DAEMON_LEASE, self._token)
        except LeaseLost:
            self._lost.set()
            raise

    def _probation_due(self) -> bool:
        self._probation_every.seconds = self.context.config.probation.check_interval
        return self._probation_every()

    def _scan(self, context: Context, **options: Any) -> dict[str, Any]:
        """Take in the inbox, and log each file of which nothing could be used."""
        report = self._scanner(context, **options)
        refused = refused_files(report)
        for file in refused:
            if file not in self._refused:
                self.log.warning("file refused", **file)
        if report:  # where nothing was looked at, what lies there lies there still
            self._refused = refused
        return report

    def _take_in(self) -> None:
        context = self.context
        self.doing = "looking at the inbox"
        try:
            report = self._scan(context, must_stop=self.must_stop)
            self.scan_error = None
        except WorkspaceLocked as error:
            # Somebody takes files in by hand: they are not ours to take, and nothing is wrong.
            self.log.debug("inbox waits", **error.to_json())
            return
        except ContlearnError as error:
            if str(error) != self.scan_error:
                self.log.error("inbox could not be taken in", **error.to_json())
                self.alerts.alert("inbox", "the inbox cannot be taken in", error)
            self.scan_error = str(error)
            return
        if report and report.get("files"):
            counts = ("accepted", "duplicates", "conflicts", "rejected")
            self.log.info("files taken in", **{k: report.get(k, 0) for k in counts})
            for item in (near for file in report["files"] for near in file.get("near_labels", ())):
                if item["refused"]:
                    self.log.warning(
                        "rows wait: their label is close to another",
                        **{k: item[k] for k in ("label", "near", "rows", "accept_as_near")},
                    )
            self.judging.forget()

    def _look(self) -> None:
        """Let monitoring look at production in a child, when there is something new to see."""
        self._look_due.seconds = self.context.config.monitoring.check_interval
        if not self._look_due():
            return
        self.doing = "looking at production"
        try:
            self._watcher.look()
        except ContlearnError as error:
            # It is no reason to stop taking in and learning; an alert tells when none comes.
            self.log.error("look failed", **error.to_json())
        self.alerts.drift()

    def _update(self, trigger: Trigger) -> UpdateResult | None:
        context = self.context
        self.doing = f"waiting for its turn: {trigger.reason}"
        self._show()
        with self.slot.turn(self.name, self.must_stop) as mine:
            if not mine:
                return None
            self.doing = f"updating: {trigger.reason}"
            self._show()
            self.log.info("update due", trigger=trigger.name, reason=trigger.reason)
            started = context.clock.monotonic()
            try:
                result = UpdateCycle(
                    context,
                    must_stop=self.must_stop,
                    child=self.child,
                    scan=self._scan,
                ).run_once(trigger=trigger.name, run_key=trigger.run_key or None)
            except LeaseLost as error:
                self.log.error("update interrupted", **error.to_json())
                return None
            except WorkspaceLocked as error:
                self.log.info("update waits", **error.to_json())
                return None
            finally:
                self.judging.forget()
                self._disk_due.now()
                seconds = context.clock.monotonic() - started
                now = context.clock.now()
                with contextlib.suppress(StorageError):
                    day = local_day(context.config.update, now)
                    add_seconds_today(context.catalog, day, seconds, now=now)
        self.judging.served(trigger)
        self._ended(result)
        return result

    def _ended(self, result: UpdateResult) -> None:
        self.log.info(
            "update ended",
            cycle=result.cycle,
            outcome=result.outcome,
            version=result.version,
            seconds=round(result.seconds, 1),
            refused_by=[outcome.rule for outcome in result.refusals],
        )
        if result.outcome == "failed" and result.error is not None:
            self._failed(result.error, result)
        elif result.outcome != "nothing-to-do":
            self.back_off.clear()
            self.last_error = None

    def _failed(self, error: ContlearnError, result: UpdateResult | None = None) -> None:
        """Wait longer after each failure in a row, and call somebody when it goes on."""
        held, suspected = (result.held, result.suspected) if result is not None else (0, 0)
        cycle = result.cycle if result is not None else None
        wait = self.back_off.failed()
        self.last_error = str(error)
        self.log.error(
            "update failed",
            failures=self.back_off.failures,
            retry_in_seconds=0.0 if held or suspected else wait,
            held=held,
            suspected=suspected,
            **error.to_json(),
        )
        if self.back_off.failures == self.context.config.daemon.alert_failures:
            self.alerts.alert(
                f"failing-{cycle or 'round'}",
                f"{self.back_off.failures} updates in a row failed",
                error,
            )
        if held or suspected:
            # What stood in the way is out of the way: the rest goes on at once.
            self.back_off.clear()
        if held:
            self.alerts.held(held, cycle, error)

    def _show(self) -> None:
        """Leave what goes on, as the one daemon here: another's word must not be written over."""
        self._require_lease()
        self.write_state(running=True)

    def write_state(self, *, running: bool) -> None:
        """Leave what goes on where `status` and the metrics find it."""
        # A full disk must not end the daemon: the next beat writes it.
        with contextlib.suppress(ContlearnError, OSError):
            write_json_atomic(
                self.context.workspace.state / "daemon.json", self.to_json(running=running)
            )

    def to_json(self, *, running: bool = True) -> dict[str, Any]:
        """Give everything there is to know about this watch."""
        context = self.context
        now = context.clock.now()
        self.beat_at = now.timestamp()
        scheduled = next_scheduled(context.config.update, now)
        if self._disk_due():
            with contextlib.suppress(ContlearnError, OSError):
                self.disk = disk_state(context).to_json()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "started_at": self.started_at.isoformat(),
            "heartbeat_at": now.isoformat(),
            "doing": self.doing,
            "next_scheduled": scheduled.isoformat() if scheduled else None,
            "due": [trigger.name for trigger in self.judging.due],
            "waits": self.judging.waits,
            "queue": list(self.slot.waiting()),
            "failures": self.back_off.failures,
            "retry_in_seconds": round(self.back_off.left(), 1),
            "last_error": self.last_error,
            "blocked_by": self.guard.problem,
            "inbox_error": self.scan_error,
            "config_error": self.reloading.refused,
            "probation": self.probation.to_json(),
            "disk": self.disk,
            "stopping": not running,
        }
