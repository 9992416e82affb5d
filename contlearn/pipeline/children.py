"""Child processes: started, listened to, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn import errors
from contlearn.errors import ContlearnError, TrainingError

__all__ = ["ChildEnd", "ChildStopped", "die_with_parent", "error_from_json", "run_child"]

_PR_SET_PDEATHSIG: Final = 1
_TAIL_BYTES: Final = 4_000


class ChildStopped(Exception):
    """The child was stopped on request; its work can be taken up again."""


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: exit code (negative for a signal), peak memory, its last words."""

    returncode: int
    peak_bytes: int
    log_tail: str

    def explain(self) -> str:
        """Say in one sentence how it ended."""
        if self.returncode >= 0:
            return f"The child process ended with code {self.returncode}."
        name = signal.Signals(-self.returncode).name
        memory = f" Its peak memory was {self.peak_bytes / 1e6:.0f} MB." if self.peak_bytes else ""
        likely = " The system probably ran out of memory." if name == "SIGKILL" else ""
        return f"The child process was ended by {name}.{likely}{memory}"


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone, however that ends.

    Source: Linux prctl(2), PR_SET_PDEATHSIG.
    """
    parent = os.environ.get("CONTLEARN_PARENT_PID")
    if sys.platform != "linux" or parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        # The parent died before the line above.
        os._exit(1)


def run_child(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    on_message: Callable[[Mapping[str, Any]], None],
    stop: threading.Event | None = None,
    grace_seconds: float = 30.0,
    environ: Mapping[str, str] | None = None,
) -> ChildEnd:
    """Run `python -m module`, hand on each JSON line it prints, and wait for its end.

    Standard error goes to `log`. An exception here, KeyboardInterrupt included, ends the child
    before it goes on.

    Raises:
        ChildStopped: When `stop` was set and the child ended because of it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {
        **os.environ,
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
    stopped = False
    peak = 0
    try:
        pipe = child.stdout
        if pipe is None:
            raise TrainingError("The child process has no output.", where=module)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            pending = b""
            open_pipe = True
            while open_pipe:
                ready = selector.select(timeout=0.5)
                peak = max(peak, _peak_memory(child.pid))
                if stop is not None and stop.is_set() and not stopped:
                    stopped = True
                    _end(child, grace_seconds)
                if not ready:
                    if child.poll() is not None:
                        break
                    continue
                data = os.read(pipe.fileno(), 65536)
                open_pipe = bool(data)
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    _hand_on(line, on_message)
        child.wait()
    except BaseException:
        _end(child, grace_seconds=5.0)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()
    if stopped:
        raise ChildStopped
    return ChildEnd(child.returncode, peak, _tail(log))


def error_from_json(value: Mapping[str, Any]) -> ContlearnError:
    """Make the error again that a child wrote down."""
    name = str(value.get("kind"))
    kind: type[ContlearnError] = getattr(errors, name) if name in errors.__all__ else ContlearnError
    return kind(
        str(value.get("error", "unknown")),
        where=value.get("where"),
        hint=value.get("hint"),
    )


def _hand_on(line: bytes, on_message: Callable[[Mapping[str, Any]], None]) -> None:
    # A library that prints to standard output must not end the cycle.
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            on_message(message)


def _end(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    deadline = time.monotonic() + grace_seconds
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if child.poll() is None:
        child.kill()
        child.wait()


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
