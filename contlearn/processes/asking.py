"""Asking a child one question: it answers with one JSON object on a line, or tells its error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contlearn.errors import ContlearnError, EvaluationError
from contlearn.processes.children import ChildLimits, MustStop, die_with_parent, run_child

__all__ = ["answer_parent", "ask_child"]


def ask_child(
    module: str,
    arguments: Sequence[object],
    *,
    needed: str,
    log: Path,
    limits: ChildLimits,
    environ: Mapping[str, str],
    must_stop: MustStop | None = None,
) -> dict[str, Any]:
    """Run `python -m module`, which ends with `answer_parent`, and give its answer.

    Args:
        module: What answers.
        arguments: Of its command line.
        needed: A key that every answer has.
        log: Where its standard error goes.
        limits: What it may use.
        environ: Its environment.
        must_stop: Says when to end it.
    Raises:
        ContlearnError: What the child told, or that it ended without an answer.
        ChildStopped: When `must_stop` said so.
    """
    found: dict[str, Any] = {}
    end = run_child(
        module,
        [str(argument) for argument in arguments],
        log=log,
        on_message=found.update,
        must_stop=must_stop,
        environ=environ,
        limits=limits,
    )
    if end.failure is not None:
        raise end.failure
    if end.returncode != 0 or needed not in found:
        raise EvaluationError(
            end.explain(), where=str(log), hint="The log has what the child said last."
        )
    return found


def answer_parent(work: Callable[[], Mapping[str, object]]) -> int:
    """Do what a parent asks for, and print the answer or the error; give the exit code."""
    die_with_parent()
    try:
        value = dict(work())
    except ContlearnError as error:
        value = {"kind": type(error).__name__, **error.to_json()}
    sys.stdout.write(json.dumps(value) + "\n")
    return 1 if "error" in value else 0
