"""Following the champion: see the pointer change, load beside the old version, swap, let go.

`current.json` in the serving directory is the one pointer that counts. It is polled, because file
events are lost on network disks and under load. A version that fails to load stays out: the old
one goes on answering, and the failure is reported until another version is promoted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contlearn.errors import ContlearnError, ServingError
from contlearn.interfaces import Clock
from contlearn.papers.manifest import MANIFEST, VersionFacts
from contlearn.papers.pointer import POINTER, Pointer, read_pointer
from contlearn.places import without_places
from contlearn.registry.leases import hold_version
from contlearn.serving.compute.memory import release_memory
from contlearn.serving.versions.loading import LOAD_NICE
from contlearn.serving.versions.version import Load, LoadedVersion
from contlearn.telemetry.server_metrics import ServerMetrics

__all__ = ["ChampionFollower"]

_log = logging.getLogger("contlearn.serving")


@dataclass
class ChampionFollower:
    """Holds the version that answers, and replaces it when the pointer changes.

    Args:
        folder: The serving directory of the model.
        load: Loads and verifies a version folder.
        metrics: Where loads are counted.
        clock: For the moment of loading.
        poll_seconds: How often the pointer is looked at.
        drain_seconds: How long requests on the old version may take before it is dropped.
        retry_seconds: How long until a version that failed is tried again.
        lowers_priority: Load beside a busy model at low priority, so that answers stay quick.
        on_swap: Told of every version that begins to answer.
        leases: Where to note which version is in use, so that retention leaves it alone.
    """

    folder: Path
    load: Load
    metrics: ServerMetrics
    clock: Clock
    poll_seconds: float = 1.0
    drain_seconds: float = 30.0
    retry_seconds: float = 30.0
    lowers_priority: bool = True
    on_swap: Callable[[LoadedVersion], None] = lambda _: None
    leases: Path | None = None
    current: LoadedVersion | None = field(default=None, init=False)
    problem: ContlearnError | None = field(default=None, init=False)
    swaps: int = field(default=0, init=False)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    _stamp: tuple[int, ...] | None = field(default=None, init=False)
    _failed: tuple[Pointer, float] | None = field(default=None, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Load the champion in the background and keep following it."""
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._held.close()

    @property
    def alive(self) -> bool:
        """Say whether the follower still follows; when it ended unexpectedly the server is ill."""
        return self._thread is None or self._thread.is_alive()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.check()
            self._stop.wait(self.poll_seconds)

    def check(self) -> bool:
        """Look at the pointer once, and swap if it changed.

        Returns:
            Whether another version answers now.
        """
        try:
            stamp = self._read_stamp()
            again = self._failed is not None and (
                time.monotonic() - self._failed[1] >= self.retry_seconds
            )
            if stamp == self._stamp and not again:
                return False
            pointer = read_pointer(self.folder)
            self._stamp = stamp
            if pointer is None or self._is_current(pointer):
                self.problem, self._failed = None, None
                self.metrics.rejected_version.set(0)
                return False
        except ContlearnError as error:
            self._report(error, None)
            return False
        except OSError as error:
            self._report(ServingError(f"{error}.", where=str(self.folder)), None)
            return False
        return self._take_up(pointer)

    def _read_stamp(self) -> tuple[int, ...] | None:
        try:
            stat = (self.folder / POINTER).stat()
        except FileNotFoundError:
            return None
        return (stat.st_mtime_ns, stat.st_ino, stat.st_size)

    def _is_current(self, pointer: Pointer) -> bool:
        now = self.current
        return now is not None and (now.number, now.epoch) == (pointer.version, pointer.epoch)

    def _take_up(self, pointer: Pointer) -> bool:
        begun = time.monotonic()
        old = self.current
        before = self._held
        if old is not None and old.number == pointer.version:
            # Promoted again: versions never change, so what is loaded is what is meant.
            old.epoch = pointer.epoch
            self.problem, self._failed = None, None
            return False
        lease = self._hold(pointer.version)
        try:
            version = self._load(pointer)
        except Exception as error:
            lease.close()
            problem = (
                error
                if isinstance(error, ContlearnError)
                else ServingError(
                    f"Version {pointer.version} cannot be loaded: {error}.",
                    where=str(self.folder / str(pointer.version)),
                    hint="Roll back, or promote another version.",
                )
            )
            self._report(problem, pointer)
            return False
        self._held = lease
        self.current = version  # the swap: one reference, seen whole or not at all
        self.swaps += 1
        self.problem, self._failed = None, None
        labels = version.label_names
        self.metrics.loaded(version.number, labels, version.loaded_at)
        self.metrics.reload_success.inc()
        self.metrics.reload_seconds.observe(time.monotonic() - begun)
        _log.info(
            "version answers",
            extra={"version": version.number, "seconds": round(time.monotonic() - begun, 3)},
        )
        self.on_swap(version)
        if old is not None and old.retire(self.drain_seconds):
            old.close()
        elif old is not None:
            _log.warning("old version still in use", extra={"version": old.number})
        before.close()
        del old, version
        release_memory()
        return True

    def _hold(self, number: int) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        if self.leases is not None:
            try:
                stack.enter_context(hold_version(self.leases, number))
            except (ContlearnError, OSError) as error:
                # A server without the right to write there can serve all the same.
                _log.warning("no lease", extra={"version": number, "error": str(error)})
        return stack

    def _load(self, pointer: Pointer) -> LoadedVersion:
        """Load in a thread of its own, because a thread's priority can be lowered only."""
        if self.current is None or not self.lowers_priority:
            return self._load_now(pointer)
        box: list[LoadedVersion | Exception] = []

        def run() -> None:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOAD_NICE)
            try:
                box.append(self._load_now(pointer))
            except Exception as error:
                box.append(error)

        thread = threading.Thread(target=run, name=f"load-{pointer.version}", daemon=True)
        thread.start()
        thread.join()
        if isinstance(box[0], Exception):
            raise box[0]
        return box[0]

    def _load_now(self, pointer: Pointer) -> LoadedVersion:
        folder = (self.folder / str(pointer.version)).resolve()
        facts = _read_facts(folder, pointer)
        predictor = self.load(folder)
        return LoadedVersion(
            number=pointer.version,
            epoch=pointer.epoch,
            predictor=predictor,
            folder=folder,
            facts=facts,
            loaded_at=self.clock.now().timestamp(),
        )

    def _report(self, problem: ContlearnError, pointer: Pointer | None) -> None:
        self.problem = without_places(problem, (self.folder,))
        self.metrics.reload_failed.inc()
        if pointer is not None:
            self._failed = (pointer, time.monotonic())
            self.metrics.rejected_version.set(pointer.version)
        _log.error(
            "version stays out",
            extra={
                "version": pointer.version if pointer else None,
                "error": problem.what,
                "where": problem.where,
                "hint": problem.hint,
            },
        )


def _read_facts(folder: Path, pointer: Pointer) -> VersionFacts:
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        value = json.loads(data)
    except (OSError, ValueError) as error:
        raise ServingError(
            f"The manifest of version {pointer.version} cannot be read: {error}.",
            where=str(path),
            hint="Promote the version again, so that it is copied anew, or roll back.",
        ) from error
    if pointer.sha256 and hashlib.sha256(data).hexdigest() != pointer.sha256:
        raise ServingError(
            f"The manifest of version {pointer.version} is not the one that was promoted.",
            where=str(path),
            hint="Promote the version again, so that it is copied anew, or roll back.",
        )
    return VersionFacts.from_json(value if isinstance(value, dict) else {})
