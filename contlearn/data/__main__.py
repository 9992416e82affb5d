"""`python -m contlearn.data WORKSPACE [PLUGINS]`: scan the inbox in a process of its own.

Prints JSON lines: progress as {"stage", "done", "total", "message"}, then the report, or an
error as {"kind", "error", "where", "hint"}. Exit code 0, or 1 if a file was refused whole, or the
error's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from contlearn.catalog.belonging import open_catalog
from contlearn.config import load_config
from contlearn.config.handover import taken_over
from contlearn.data.intake.ingest import scan_inbox
from contlearn.data.intake.place import Intake
from contlearn.errors import ContlearnError, UsageError
from contlearn.interfaces import Progress
from contlearn.packages import missing_package
from contlearn.plugins.manager import PluginManager
from contlearn.workspace import SystemClock, Workspace


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def _progress() -> Progress:
    last = 0.0

    def report(stage: str, done: int, total: int, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.2:
            last = now
            _say({"stage": stage, "done": done, "total": total, "message": message})

    return report


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Scan the inbox of one workspace."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _stop)
    try:
        if len(arguments) not in (1, 2):
            raise UsageError("Name one workspace.", hint="python -m contlearn.data WORKSPACE")
        workspace = Workspace(Path(arguments[0]))
        config = taken_over(workspace.root) or load_config(workspace.require().root).config
        folder = Path(arguments[1]) if len(arguments) > 1 else None
        manager = PluginManager(folder=folder, blocked=config.plugins.blocked)
        with open_catalog(workspace, config) as catalog:
            parts = (workspace, config, catalog, manager)
            report = scan_inbox(Intake(*parts, clock=SystemClock(), progress=_progress()))
    except (ContlearnError, ModuleNotFoundError) as raised:
        error = raised if isinstance(raised, ContlearnError) else missing_package(raised)
        if error is None:
            raise
        _say({"kind": type(error).__name__, **error.to_json()})
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    _say(report.to_json())
    return report.exit_code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Nothing is left to do; the libraries' own clean-up only costs time.
    os._exit(code)
