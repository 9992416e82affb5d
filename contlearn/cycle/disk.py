"""The disk: what an update needs, what is there, and what is thrown away when time goes by."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contlearn.context import Context
from contlearn.errors import StorageError
from contlearn.wording import size

__all__ = ["DiskState", "disk_state", "folder_bytes", "require_space", "space_needed", "sweep"]

# While it trains, a fit keeps two states of weights and two moments each, and the best weights.
_WORK_FACTOR: Final = 7
# Of a model that never was trained here: checkpoint, ONNX and serving copy, and the work.
_FIRST_FACTOR: Final = 3 + _WORK_FACTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskState:
    """Bytes: free on the disk, used by the workspace, allowed to it (0: all), needed next.

    What is used is counted only where it is limited; else it is None, not 0.
    """

    free: int
    used: int | None
    allowed: int
    needed: int
    reserve: int

    @property
    def missing(self) -> int:
        """How much is missing for the next update; 0 when it fits."""
        short = self.needed + self.reserve - self.free
        if self.allowed and self.used is not None:
            short = max(short, self.used + self.needed - self.allowed)
        return max(0, short)

    def to_json(self) -> dict[str, int | None]:
        """Give it as the entry `disk` of `status --json`."""
        return {
            "free_bytes": self.free,
            "used_bytes": self.used,
            "allowed_bytes": self.allowed,
            "needed_bytes": self.needed,
            "missing_bytes": self.missing,
        }


def folder_bytes(folder: Path) -> int:
    """Add up what the files below a folder take on the disk; what goes meanwhile is passed over."""
    total, todo = 0, [str(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def space_needed(context: Context) -> int:
    """Estimate what the next update writes at most at one moment.

    From the champion's own size, and from the base model's where it is a folder here; a model that
    is not here yet counts nothing.
    """
    champion = context.registry.champion()
    if champion is not None:
        folder = context.registry.get(champion).path
        weights, served = folder_bytes(folder / "checkpoint"), folder_bytes(folder / "onnx")
        return folder_bytes(folder) + served + _WORK_FACTOR * weights
    base = Path(context.config.model.base).expanduser()
    if not base.is_absolute():
        base = context.workspace.root / base
    return _FIRST_FACTOR * folder_bytes(base) if base.is_dir() else 0


def disk_state(context: Context) -> DiskState:
    """Look at the disk. Walks through the workspace only when it has a budget."""
    retention = context.config.retention
    return DiskState(
        free=shutil.disk_usage(context.workspace.root).free,
        used=folder_bytes(context.workspace.root) if retention.workspace_bytes else None,
        allowed=retention.workspace_bytes,
        needed=space_needed(context),
        reserve=retention.min_free_bytes,
    )


def require_space(context: Context) -> None:
    """Refuse an update that cannot fit, unless `retention.check_space` is off.

    Raises:
        StorageError: It says how much is missing.
    """
    if not context.config.retention.check_space:
        return
    state = disk_state(context)
    if not state.missing:
        return
    used = state.used or 0
    budget = state.allowed and used + state.needed > state.allowed
    limit = (
        f"the workspace has {size(used)} of {size(state.allowed)} (retention.workspace_bytes)"
        if budget
        else f"{size(state.free)} are free, of which {size(state.reserve)} stay free "
        "(retention.min_free_bytes)"
    )
    raise StorageError(
        f"The update does not fit on the disk: it needs up to {size(state.needed)}, and {limit}. "
        f"{size(state.missing)} are missing.",
        where=str(context.workspace.root),
        hint="Free that much, or lower retention.versions; the records wait.",
    )


def sweep(context: Context) -> int:
    """Throw away what is old: sent notifications, rests of killed writers, old predictions.

    Versions and cycles have their own retention, which each update applies.

    Returns:
        How many files went.
    """
    from contlearn.monitoring.prediction_log import sweep_segments

    workspace, config = context.workspace, context.config
    gone = 0
    now = context.clock.now().timestamp()
    sent = sorted((workspace.outbox / "sent").glob("*.json"))
    for path in sent[: -config.retention.notifications]:
        path.unlink(missing_ok=True)
        gone += 1
    # The server sweeps its own log while it runs; this is for when it does not.
    bounds = config.monitoring
    gone += sweep_segments(
        workspace.predictions,
        most=bounds.log_bytes,
        max_age=bounds.log_age,
        now=now,
        spare_newest=True,
    )
    for folder in (workspace.state, workspace.outbox):
        for path in folder.glob(".*.tmp"):
            # A writer lives for seconds; what is a day old has none.
            if now - _changed(path, now) > 86400.0:
                path.unlink(missing_ok=True)
                gone += 1
    return gone


def _changed(path: Path, otherwise: float) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return otherwise
