"""Versions loaded beside the champion: a canary, a shadow, and those asked for by number."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contlearn.errors import ContlearnError, ServingError
from contlearn.interfaces import Clock
from contlearn.papers.decision import read_decision
from contlearn.papers.manifest import MANIFEST, VersionFacts
from contlearn.places import without_places
from contlearn.registry.leases import hold_version
from contlearn.serving.compute.memory import release_memory
from contlearn.serving.versions.roles import CHALLENGER, Roles
from contlearn.serving.versions.version import Load, LoadedVersion

__all__ = ["Shelf"]

_log = logging.getLogger("contlearn.serving")


@dataclass
class Shelf:
    """Loads what the roles name, and lets go of what they name no longer.

    A version is looked for in the serving directory first, then in the registry, so that one that
    was never promoted can be tried too.

    Args:
        folder: The serving directory of the model.
        registry: The folder `versions` of the workspace; None when there is none.
        load: Loads and verifies a version folder.
        clock: For the moment of loading.
        champion: Gives the number of the version that answers.
        poll_seconds: How often the roles are looked at.
        drain_seconds: How long requests on a version may take before it is dropped.
        retry_seconds: How long until a version that failed is tried again.
        leases: Where to note which versions are in use.
    """

    folder: Path
    registry: Path | None
    load: Load
    clock: Clock
    champion: Callable[[], int | None]
    poll_seconds: float = 1.0
    drain_seconds: float = 30.0
    retry_seconds: float = 30.0
    leases: Path | None = None
    roles: Roles = field(default_factory=Roles)
    loaded: dict[int, LoadedVersion] = field(default_factory=dict, init=False)
    problems: dict[int, ContlearnError] = field(default_factory=dict, init=False)
    _names: dict[str, int | None] = field(default_factory=dict, init=False)
    _failed_at: dict[int, float] = field(default_factory=dict, init=False)
    _holds: dict[int, contextlib.ExitStack] = field(default_factory=dict, init=False)
    _wake: threading.Event = field(default_factory=threading.Event, init=False)
    _stopped: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Load in the background."""
        self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop loading."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        for hold in self._holds.values():
            hold.close()

    def change(self, roles: Roles) -> None:
        """Take other roles; versions are loaded in a moment."""
        self.roles = roles
        self._wake.set()

    def canary(self) -> LoadedVersion | None:
        """Give the canary, when there is one that can answer and is not the champion itself."""
        role = self.roles.canary
        return None if role is None else self._beside(self.number(role.version))

    def shadow(self) -> LoadedVersion | None:
        """Give the shadow, when there is one that can answer and is not the champion itself."""
        role = self.roles.shadow
        return None if role is None else self._beside(self.number(role.version))

    def _beside(self, number: int | None) -> LoadedVersion | None:
        if number is None or number == self.champion():
            return None
        return self.loaded.get(number)

    def number(self, version: int | str) -> int | None:
        """Give the number a role means; None when there is no such version."""
        return version if isinstance(version, int) else self._names.get(version)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.tend()
            # Whatever happens to a further version, the champion goes on answering.
            except Exception:
                _log.exception("shelf failed")
            self._wake.wait(self.poll_seconds)
            self._wake.clear()

    def tend(self) -> None:
        """Look at the roles once: load what is missing, let go of what is not named any more."""
        champion, roles = self.champion(), self.roles
        named = [role.version for role in (roles.canary, roles.shadow) if role is not None]
        if CHALLENGER in named:
            self._names[CHALLENGER] = self._challenger(champion)
        wanted = {self.number(version) for version in (*named, *roles.also)} - {None, champion}
        for number in sorted(set(self.loaded) - wanted):
            self._drop(number)
        for number in set(self.problems) - wanted:
            del self.problems[number]
            self._failed_at.pop(number, None)
        for number in sorted(n for n in wanted if n is not None and n not in self.loaded):
            failed = self._failed_at.get(number)
            if failed is None or time.monotonic() - failed >= self.retry_seconds:
                self._take(number)

    def _challenger(self, champion: int | None) -> int | None:
        """Find the newest whole version above the champion that the gate let pass.

        One with a copy in the serving directory was champion before: it gave way.
        """
        if self.registry is None:
            return None
        with contextlib.suppress(OSError):
            numbers = {int(path.name) for path in self.registry.iterdir() if path.name.isdigit()}
            for number in sorted(numbers, reverse=True):
                if number <= (champion or 0):
                    break
                if not (self.folder / str(number)).exists() and self._has_passed(number):
                    return number
        return None

    def _has_passed(self, number: int) -> bool:
        folder = (self.registry or self.folder) / str(number)
        # One that is not whole yet, or was not judged, is no challenger.
        with contextlib.suppress(ContlearnError):
            return (folder / MANIFEST).is_file() and read_decision(folder).promoted
        return False

    def _take(self, number: int) -> None:
        hold = contextlib.ExitStack()
        try:
            if self.leases is not None:
                # Without the right to write there, a server can serve all the same.
                with contextlib.suppress(OSError, ContlearnError):
                    hold.enter_context(hold_version(self.leases, number))
            folder, facts = self._find(number)
            predictor = self.load(folder)
        except Exception as error:
            hold.close()
            problem = (
                error
                if isinstance(error, ContlearnError)
                else ServingError(f"Version {number} cannot be loaded: {error}.")
            )
            self.problems[number] = without_places(problem, (self.folder,))
            self._failed_at[number] = time.monotonic()
            _log.error("version stays out", extra={"version": number, "error": problem.what})
            return
        self._holds[number] = hold
        self.loaded[number] = LoadedVersion(
            number=number,
            epoch=0,
            predictor=predictor,
            folder=folder,
            facts=facts,
            loaded_at=self.clock.now().timestamp(),
        )
        self.problems.pop(number, None)
        self._failed_at.pop(number, None)
        _log.info("version beside the champion", extra={"version": number})

    def _find(self, number: int) -> tuple[Path, VersionFacts]:
        places = [(self.folder / str(number), self.folder / str(number) / MANIFEST)]
        if self.registry is not None:
            version = self.registry / str(number)
            places.append((version / "onnx", version / MANIFEST))
        for folder, manifest in places:
            if folder.is_dir() and manifest.is_file():
                value = json.loads(manifest.read_bytes())
                facts = VersionFacts.from_json(value if isinstance(value, dict) else {})
                return folder.resolve(), facts
        raise ServingError(
            f"There is no version {number}.",
            where=str(self.folder),
            hint="`contlearn history` lists the versions.",
        )

    def _drop(self, number: int) -> None:
        version = self.loaded.pop(number)
        if version.retire(self.drain_seconds):
            version.close()
        self._holds.pop(number, contextlib.ExitStack()).close()
        release_memory()
