"""The process: a thread for each workspace, signals, the watchdog, and the service manager."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog

from contlearn.context import Context
from contlearn.daemon.service_manager import ServiceManager
from contlearn.daemon.slot import UpdateSlot, default_host_lock
from contlearn.daemon.watch import Watch
from contlearn.errors import ConfigError, UsageError
from contlearn.workspace import write_json_atomic

__all__ = ["Daemon"]

_ROUND_SECONDS: Final = 1.0
_STATE_SECONDS: Final = 10.0
# A round that shows no life for so long stands still: trying a version in a child takes 300 s.
STALL_SECONDS: Final = 600.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Daemon:
    """All workspaces of one process; at most one of them updates at a time.

    Args:
        contexts: The opened workspaces.
        standby: Stand by where another daemon works, instead of giving up.
        manager: The service manager to tell.
    Raises:
        ConfigError: When two models have one name, which metrics and pages go by.
        UsageError: When a workspace is named twice, or they name different host locks.
    """

    def __init__(
        self,
        contexts: Sequence[Context],
        *,
        standby: bool = True,
        manager: ServiceManager | None = None,
    ) -> None:
        roots = [context.workspace.root.resolve() for context in contexts]
        if len(set(roots)) != len(roots):
            raise UsageError("A workspace is named twice.", where="daemon", hint="Name it once.")
        models: dict[str, Path] = {}
        for context in contexts:
            name, root = context.config.model.name, context.workspace.root
            if models.setdefault(name, root) != root:
                raise ConfigError(
                    f"Two workspaces have a model of the name {name!r}.",
                    where=f"{models[name]} and {root}",
                    hint="Give one another name: model.name in contlearn.toml.",
                )
        self.stop = threading.Event()
        named = {context.config.daemon.host_lock for context in contexts} - {""}
        if len(named) > 1:
            raise UsageError(
                "The workspaces name different files in daemon.host_lock.",
                where="daemon.host_lock",
                hint="One process has one turn: name the same file, or none.",
            )
        self.slot = UpdateSlot(Path(named.pop()) if named else default_host_lock())
        self.watches = [
            Watch(context, self.slot, self.stop, standby=standby) for context in contexts
        ]
        self.manager = manager or ServiceManager()
        self.log = structlog.get_logger("contlearn.daemon")
        self.started = time.monotonic()
        self._flags: set[int] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._errors: list[BaseException] = []
        self._state_at = self._alive_at = float("-inf")

    def run(self) -> None:
        """Work until `stop` is set or a signal asks for the end.

        Raises:
            WorkspaceLocked: When another daemon works in a workspace and `standby` is off.
        """
        for watch in self.watches:
            self._start(watch)
        poster = threading.Thread(target=self._post, name="post", daemon=True)
        poster.start()
        self.manager.ready(f"watching {len(self.watches)} workspaces")
        try:
            while not self.stop.is_set() and not self._errors:
                self._round()
                self.stop.wait(_ROUND_SECONDS)
        finally:
            self._end()
            poster.join(timeout=5.0)
        if self._errors:
            raise self._errors[0]

    def heartbeat(self) -> float | None:
        """Give when the slowest workspace was last looked at, in seconds since the epoch."""
        beats = [watch.beat_at for watch in self.watches]
        return None if None in beats else min(beat for beat in beats if beat is not None)

    def blocked(self) -> dict[str, bool]:
        """Say of each model whether something keeps its workspace from being watched."""
        return {w.context.config.model.name: w.problem is not None for w in self.watches}

    def is_healthy(self) -> bool:
        """Say whether every workspace's thread lives and moves."""
        return all(self._problem(watch) is None for watch in self.watches)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Give health and details, for the endpoint."""
        value = {
            "ok": self.is_healthy(),
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self.started, 1),
            "workspaces": [
                {
                    "model": watch.context.config.model.name,
                    "active": watch.is_active,
                    "doing": watch.doing.partition(":")[0],
                    # What a restart would not mend is shown, and is no reason for one.
                    "problem": self._problem(watch) or watch.problem,
                    "failures": watch.back_off.failures,
                    "config_error": watch.reloading.refused,
                }
                for watch in self.watches
            ],
        }
        return bool(value["ok"]), value

    def is_ready(self) -> tuple[bool, dict[str, Any]]:
        """Say whether this process works in a workspace; one that stands by is not ready."""
        return any(watch.is_active for watch in self.watches) and self.is_healthy(), {
            "active": sum(watch.is_active for watch in self.watches),
            "standing_by": sum(watch.doing == "standing by" for watch in self.watches),
        }

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While the block runs: SIGTERM and SIGINT end, SIGHUP reads the configuration again,
        SIGUSR1 writes everything down that is known.
        """

        def handle(number: int, _frame: FrameType | None) -> None:
            self._flags.add(number)
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop.set()

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def dump(self) -> Path:
        """Write the state of every watch and the stack of every thread; give the file."""
        state = self.watches[0].context.workspace.state
        path = state / "daemon-dump.json"
        with contextlib.suppress(OSError), (state / "daemon-stacks.txt").open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        _, health = self.health()
        value = {
            "health": health,
            "slot": {"holder": self.slot.holder, "waiting": list(self.slot.waiting())},
            "watches": {watch.name: watch.to_json() for watch in self.watches},
        }
        write_json_atomic(path, value)
        self.log.info("state written down", where=str(path), **health)
        return path

    # -- inside ---------------------------------------------------------------------------------

    def _round(self) -> None:
        if signal.SIGHUP in self._flags:
            self._flags.discard(signal.SIGHUP)
            self.manager.reloading()
            for watch in self.watches:
                try:
                    watch.reload()
                except Exception:
                    # A bug there must not end the daemon: the old configuration holds.
                    self.log.exception("the configuration could not be read", where=watch.name)
            self.manager.ready("configuration read again")
        if signal.SIGUSR1 in self._flags:
            self._flags.discard(signal.SIGUSR1)
            with contextlib.suppress(Exception):
                self.dump()
        now = time.monotonic()
        if now - self._state_at >= _STATE_SECONDS:
            self._state_at = now
            for watch in self.watches:
                # A step that updates for hours writes nothing itself.
                if watch.is_active and watch.doing.startswith("updating"):
                    watch.write_state(running=True)
        for watch in self.watches:
            if not self._threads[watch.name].is_alive() and not self._errors:
                self.log.error("a workspace's thread ended and is started again", where=watch.name)
                self._start(watch)
        pause = self.manager.watchdog_seconds / 3 or 60.0
        if now - self._alive_at >= pause:
            self._alive_at = now
            if self.is_healthy():
                self.manager.alive("; ".join(watch.doing for watch in self.watches)[:200])
            else:
                self.log.error("standing still", **self.health()[1])

    def _start(self, watch: Watch) -> None:
        def work() -> None:
            try:
                watch.run()
            except Exception as error:
                self._errors.append(error)

        thread = threading.Thread(target=work, name=f"watch-{watch.context.config.model.name}")
        thread.daemon = True
        self._threads[watch.name] = thread
        thread.start()

    def _post(self) -> None:
        while not self.stop.wait(_ROUND_SECONDS):
            for watch in self.watches:
                # What a step posts itself waits while it updates.
                if watch.doing.startswith("updating"):
                    with contextlib.suppress(Exception):
                        watch.post()

    def _problem(self, watch: Watch) -> str | None:
        thread = self._threads.get(watch.name)
        if thread is None or not thread.is_alive():
            return "its thread has ended"
        age = watch.context.clock.monotonic() - watch.beat
        if age > STALL_SECONDS and watch.doing != "standing by":
            return f"no sign of life for {age:.0f} s"
        return None

    def _end(self) -> None:
        self.stop.set()
        grace = max(watch.context.config.daemon.grace_seconds for watch in self.watches)
        self.manager.stopping("ending")
        deadline = time.monotonic() + grace + 30.0
        for thread in self._threads.values():
            while thread.is_alive() and time.monotonic() < deadline:
                self.manager.tell(EXTEND_TIMEOUT_USEC=str(int((grace + 30) * 1e6)))
                thread.join(timeout=1.0)
