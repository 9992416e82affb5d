"""`python -m contlearn.data WORKSPACE`: scan the inbox in a process of its own.

Prints JSON lines: progress as {"stage", "done", "total", "message"}, then the report, or an
error as {"kind", "error", "where", "hint"}. The exit code is 0 or the error's.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from contlearn.catalog.belonging import open_catalog
from contlearn.config import load_config
from contlearn.config.handover import plugins_taken_over, taken_over
from contlearn.data.intake.ingest import scan_inbox
from contlearn.data.intake.place import Intake
from contlearn.errors import UsageError
from contlearn.interfaces import Progress
from contlearn.plugins.manager import PluginManager
from contlearn.processes.answering import answer_parent, tell_progress
from contlearn.workspace import SystemClock, Workspace


def _progress() -> Progress:
    last = 0.0

    def report(stage: str, done: int, total: int, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.2:
            last = now
            tell_progress(stage, done, total, message)

    return report


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def scan(arguments: list[str]) -> dict[str, object]:
    """Scan the inbox of one workspace."""
    if len(arguments) != 1:
        raise UsageError("Name one workspace.", hint="python -m contlearn.data WORKSPACE")
    workspace = Workspace(Path(arguments[0]))
    config = taken_over(workspace.root) or load_config(workspace.require().root).config
    folder = plugins_taken_over(workspace.root)
    manager = PluginManager(folder=folder, blocked=config.plugins.blocked, quiet=True)
    with open_catalog(workspace, config) as catalog:
        parts = (workspace, config, catalog, manager)
        return scan_inbox(Intake(*parts, clock=SystemClock(), progress=_progress())).to_json()


def main(arguments: list[str] | None = None) -> int:
    """Scan, and answer the parent."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        return answer_parent(lambda: scan(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Nothing is left to do; the libraries' own clean-up only costs time.
    os._exit(code)
