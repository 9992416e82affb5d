"""What every child does: it ends with its parent, and tells it how far it is and how it ended.

All of it goes through the pipe, one JSON object a line, for the disk may be what fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from contlearn.errors import ContlearnError
from contlearn.packages import missing_package
from contlearn.redaction import redact

__all__ = ["answer_parent", "tell_progress"]

_PR_SET_PDEATHSIG: Final = 1


def answer_parent(
    work: Callable[[], Mapping[str, object] | None],
    *,
    unforeseen: type[ContlearnError] = ContlearnError,
) -> int:
    """Do what a parent asks for, and tell it the answer, if there is one, or why it fails.

    Args:
        work: Gives the answer.
        unforeseen: The kind of error that the parent makes of an exception which is none of ours.
    Returns:
        The exit code: 0, or that of the error.
    """
    _die_with_parent()
    try:
        answer = work()
        if answer is not None:
            _tell(answer)
    except Exception as error:
        return _tell_failure(error, unforeseen)
    return 0


def tell_progress(stage: str, done: int, total: int, message: str) -> None:
    """Tell the parent how far the work is."""
    _tell({"stage": stage, "done": done, "total": total, "message": message})


def _tell(value: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _tell_failure(error: Exception, unforeseen: type[ContlearnError]) -> int:
    """Tell the parent why the work fails; the traceback goes to the log."""
    with contextlib.suppress(OSError):
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
        sys.stderr.flush()
    if not isinstance(error, ContlearnError):
        error = missing_package(error) or unforeseen(
            f"{type(error).__name__}: {error}",
            hint="The log has the traceback. If it is a bug in contlearn, please report it.",
        )
    _tell({"kind": type(error).__name__, **error.to_json()})
    return error.exit_code


def _die_with_parent() -> None:
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
