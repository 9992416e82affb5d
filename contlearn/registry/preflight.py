"""Try a version before it is served, in a child: this process never loads onnxruntime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["check_in_child"]

_SECONDS: Final = 300.0


def check_in_child(
    folder: Path, *, plugins_dir: Path | None = None, blocked: Iterable[str] = ()
) -> list[str]:
    """Load a model in a child and compare its golden answers.

    Args:
        folder: Holds the model.
        plugins_dir: A folder of loose plugin files, one of which may be the model's task.
        blocked: Names of plugins that must not be loaded.
    Returns:
        One sentence a problem; nothing when the model answers as it did when it was made.
    """
    command = [sys.executable, "-m", "contlearn.inference", "check", str(folder.absolute())]
    if plugins_dir is not None:
        command += ["--plugins-dir", str(plugins_dir.absolute())]
    for name in sorted(blocked):
        command += ["--blocked", name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return [f"it did not answer within {_SECONDS:.0f} seconds"]
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        if done.returncode < 0:
            return [f"loading it was ended by signal {-done.returncode}"]
        last = done.stderr.strip().splitlines()[-1:] or ["nothing was said"]
        return [f"loading it failed with exit code {done.returncode}: {last[0]}"]
    return [] if result.get("ok") else [str(problem) for problem in result["problems"]]
