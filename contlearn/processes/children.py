"""Child processes: started, listened to, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from contlearn import errors
from contlearn.errors import ContlearnError, TrainingError
from contlearn.processes.control_groups import ControlGroup, find_delegated

__all__ = [
    "ChildEnd",
    "ChildLimits",
    "ChildStopped",
    "MustStop",
    "progress_of",
    "run_child",
]

# Asked again and again whether the work must stop: the `is_set` of an event fits.
MustStop: TypeAlias = "Callable[[], bool]"
_TAIL_BYTES: Final = 4_000
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ChildStopped(Exception):
    """The child was stopped on request; its work can be taken up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLimits:
    """What a child may use; 0 means no limit.

    Args:
        memory_bytes: Of the child and its children together. Held by a control group where one was
            handed over, else by watching resident memory (an address-space limit would break CUDA).
        seconds: From its start to its end.
        stuck_seconds: Without a message.
        nice: How far it steps back behind other processes.
        threads: Of its numerical libraries.
        log_bytes: A log that is longer is put aside before the child writes to it.
    """

    memory_bytes: int = 0
    seconds: float = 0.0
    stuck_seconds: float = 0.0
    nice: int = 0
    threads: int = 0
    log_bytes: int = 5_000_000


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: exit code (negative for a signal), peak memory, its last words.

    `limit` says which limit ended it, in words; empty when none did. `failure` is the error that it
    told, as `answer_parent` does; None for none.
    """

    returncode: int
    peak_bytes: int
    log_tail: str
    limit: str = ""
    failure: ContlearnError | None = None

    def explain(self) -> str:
        """Say in one sentence how it ended."""
        memory = f" Its peak memory was {self.peak_bytes / 1e6:.0f} MB." if self.peak_bytes else ""
        if self.limit:
            return f"The child process was ended because {self.limit}.{memory}"
        if self.returncode >= 0:
            return f"The child process ended with code {self.returncode}."
        name = signal.Signals(-self.returncode).name
        likely = " The system probably ran out of memory." if name == "SIGKILL" else ""
        return f"The child process was ended by {name}.{likely}{memory}"


_NO_LIMITS: Final = ChildLimits()


def run_child(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    on_message: Callable[[Mapping[str, Any]], None],
    must_stop: MustStop | None = None,
    grace_seconds: float = 30.0,
    environ: Mapping[str, str] | None = None,
    limits: ChildLimits = _NO_LIMITS,
) -> ChildEnd:
    """Run `python -m module`, hand on each JSON line it prints, and wait for its end.

    Standard error goes to `log`. An exception here, KeyboardInterrupt included, ends the child
    before it goes on.

    Raises:
        ChildStopped: When `must_stop` said so and the child ended because of it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    _rotate(log, limits.log_bytes)
    variables = {
        # OpenMP threads that spin at barriers multiply the time of a step where other programs, the
        # server above all, use the same cores; waiting costs microseconds where none does.
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        **({name: str(limits.threads) for name in _THREADS} if limits.threads else {}),
        "CONTLEARN_PARENT_PID": str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
        **(environ or {}),
    }
    with log.open("ab") as log_file:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=variables,
            # Ctrl-C reaches the whole terminal group; the parent decides how the child ends.
            process_group=0,
        )
    watched = _Watched(child, log, limits, grace_seconds)
    try:
        watched.step_back()
        watched.listen(on_message, must_stop)
        child.wait()
    except BaseException:
        _end(child, grace_seconds=5.0)
        raise
    finally:
        watched.close()
    if watched.is_stopped:
        raise ChildStopped
    return ChildEnd(child.returncode, watched.peak, _tail(log), watched.limit, watched.failure)


class _Watched:
    """A child, its limits, and what was seen of it."""

    def __init__(
        self, child: subprocess.Popen[bytes], log: Path, limits: ChildLimits, grace_seconds: float
    ) -> None:
        self.child, self.log = child, log
        self.limits, self.grace_seconds = limits, grace_seconds
        self.peak = 0
        self.limit = ""
        self.failure: ContlearnError | None = None
        self.is_stopped = False
        self._kill_at: float | None = None
        self._started = self._heard = time.monotonic()
        self._group: ControlGroup | None = None

    def step_back(self) -> None:
        """Set how the system treats the child: its group, its priority, who goes first."""
        pid, limits = self.child.pid, self.limits
        if limits.memory_bytes:
            base = find_delegated()
            if base is not None:
                name = f"update-{pid}"
                self._group = ControlGroup.make(base, name, memory_bytes=limits.memory_bytes)
                if self._group is not None and not self._group.add(pid):
                    self._group.remove()
                    self._group = None
        if limits.nice:
            # The child may have ended already; a lower priority is no condition of its work.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, pid, limits.nice)
            # Should the machine run out of memory, the update goes before parent and server.
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("500", encoding="ascii")

    def listen(
        self, on_message: Callable[[Mapping[str, Any]], None], must_stop: MustStop | None
    ) -> None:
        """Hand on what it says until it ends; hold it to its limits meanwhile."""
        pipe = self.child.stdout
        if pipe is None:
            raise TrainingError("The child process has no output.", where="child")
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            looked = 0.0
            while True:
                ready = selector.select(timeout=0.5)
                now = time.monotonic()
                if now - looked >= 0.25:
                    looked = now
                    self._look(now)
                if must_stop is not None and self._kill_at is None and must_stop():
                    self.is_stopped = True
                    self._ask_to_end(now)
                if self._kill_at is not None and now >= self._kill_at:
                    _kill_group(self.child)
                if not ready:
                    if self.child.poll() is not None:
                        return
                    continue
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    if self.child.poll() is not None:
                        return
                    # It closed its output and lives on: only its end or a limit is left.
                    selector.unregister(pipe)
                    continue
                self._heard = now
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._hand_on(line, on_message)

    def _hand_on(self, line: bytes, on_message: Callable[[Mapping[str, Any]], None]) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # a library that prints to standard output must not end the cycle
        if not isinstance(message, dict):
            return
        if {"kind", "error"} <= message.keys():
            self.failure = _error_from(message, self.log)
        else:
            on_message(message)

    def close(self) -> None:
        """Let go of everything that belongs to it."""
        if self.child.stdout is not None:
            self.child.stdout.close()
        if self._group is not None:
            if self.child.returncode == -signal.SIGKILL and self._group.ran_out():
                self.limit = self._memory_words()
            self._group.remove()

    def _look(self, now: float) -> None:
        limits = self.limits
        self.peak = max(self.peak, _peak_memory(self.child.pid))
        if self._kill_at is not None:
            return
        if limits.memory_bytes and self._group is None:
            resident = _resident_memory(self.child.pid)
            self.peak = max(self.peak, resident)
            if resident > limits.memory_bytes:
                # At once: what grows this fast leaves no time for a farewell.
                self.limit = self._memory_words()
                self._kill_at = now
                return
        if limits.seconds and now - self._started > limits.seconds:
            self.limit = f"it took longer than {limits.seconds:.0f} s (daemon.update_time)"
        elif limits.stuck_seconds and now - self._heard > limits.stuck_seconds:
            self.limit = (
                f"it said nothing for {limits.stuck_seconds:.0f} s (daemon.stuck_time): it is stuck"
            )
        if self.limit:
            self._ask_to_end(now)

    def _memory_words(self) -> str:
        allowed = self.limits.memory_bytes / 1e6
        return f"it used more than {allowed:.0f} MB of memory (daemon.memory_bytes)"

    def _ask_to_end(self, now: float) -> None:
        self.child.terminate()
        self._kill_at = now + self.grace_seconds


def progress_of(message: Mapping[str, Any]) -> tuple[str, int, int, str] | None:
    """Read stage, done, total and words as `tell_progress` tells them; None of anything else."""
    match message:
        case {"stage": str(stage), "done": int(done), "total": int(total)}:
            return stage, done, total, str(message.get("message", ""))
    return None


def _error_from(value: Mapping[str, Any], log: Path) -> ContlearnError:
    """Make the error again that a child told; the log says more of one that names no place."""
    name = str(value.get("kind"))
    kind: type[ContlearnError] = getattr(errors, name) if name in errors.__all__ else ContlearnError
    return kind(
        str(value.get("error", "unknown")),
        where=value.get("where") or str(log),
        hint=value.get("hint"),
    )


def _end(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    deadline = time.monotonic() + grace_seconds
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if child.poll() is None:
        _kill_group(child)
        child.wait()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and what it started; it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _rotate(log: Path, most: int) -> None:
    """Keep one former log beside one that has grown."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > most:
            log.replace(log.with_name(log.name + ".1"))


def _resident_memory(pid: int) -> int:
    """Add up the resident memory of a process and its descendants."""
    total, todo = 0, [pid]
    while todo:
        folder = Path("/proc") / str(todo.pop())
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int((folder / "statm").read_text(encoding="ascii").split()[1])
            total += pages * _PAGE
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text(encoding="ascii").split())
    return total


def _peak_memory(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
