"""A control group for the update, where the service manager has handed one over (cgroup v2).

The kernel then holds the memory limit for the child and all its children together. Nothing is
touched where no delegation was given: without one, the parent watches resident memory itself.

Source: Linux kernel documentation, "Control Group v2"; systemd documentation, "Control Group APIs
and Delegation".
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ControlGroup", "find_delegated"]

_OWN: Final = "daemon"  # as DelegateSubgroup= of the unit calls it


def find_delegated(own: str | None = None, mounts: str | None = None) -> Path | None:
    """Give the folder of the control group that was handed over to this process, or None.

    Args:
        own: What /proc/self/cgroup says; read if left out.
        mounts: What /proc/self/mounts says; read if left out.
    """
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii") if own is None else own
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8") if mounts is None else mounts
    except (OSError, UnicodeDecodeError):
        return None
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::/")), None)
    root = next(
        (f[1] for line in mounts.splitlines() if len(f := line.split()) > 2 and f[2] == "cgroup2"),
        None,
    )
    if path is None or root is None:
        return None
    folder = Path(root) / path.lstrip("/")
    for candidate in (folder, folder.parent):
        if _is_delegated(candidate) and "memory" in _words(candidate / "cgroup.controllers"):
            return candidate
    return None


def _is_delegated(folder: Path) -> bool:
    """Look for the mark that systemd leaves on a folder it has handed over."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name).strip(b"\0\n ") == b"1":
                return os.access(folder / "cgroup.subtree_control", os.W_OK)
    return False


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The group of one child."""

    folder: Path

    @classmethod
    def make(cls, base: Path, name: str, *, memory_bytes: int) -> ControlGroup | None:
        """Make a group with a memory limit below `base`; None where the kernel refuses.

        Args:
            base: What `find_delegated` gave.
            name: Of the group.
            memory_bytes: The limit, held for all processes of the group together.
        """
        try:
            if "memory" not in _words(base / "cgroup.subtree_control"):
                # A group that passes controllers on may hold no process itself: ours moves down.
                (base / _OWN).mkdir(exist_ok=True)
                for pid in _words(base / "cgroup.procs"):
                    with contextlib.suppress(ProcessLookupError):
                        _write(base / _OWN / "cgroup.procs", pid)
                _write(base / "cgroup.subtree_control", "+memory")
            folder = base / name
            folder.mkdir(exist_ok=True)
            _write(folder / "memory.max", str(memory_bytes))
            for file, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with contextlib.suppress(OSError):  # kernels without swap accounting lack it
                    _write(folder / file, value)
        except OSError:
            return None
        return cls(folder)

    def add(self, pid: int) -> bool:
        """Put a process into the group; its later children follow."""
        try:
            _write(self.folder / "cgroup.procs", str(pid))
        except OSError:
            return False
        return True

    def ran_out(self) -> bool:
        """Say whether the kernel ended something here because of the limit."""
        words = _words(self.folder / "memory.events")
        counts = dict(zip(words[::2], words[1::2], strict=False))
        return int(counts.get("oom_kill", 0)) > 0

    def remove(self) -> None:
        """End what is left in it and remove it."""
        with contextlib.suppress(OSError):
            _write(self.folder / "cgroup.kill", "1")
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
