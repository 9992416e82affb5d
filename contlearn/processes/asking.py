"""Asking a child one question: it answers with one JSON object, or tells its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contlearn.errors import ContlearnError
from contlearn.interfaces import Progress, no_progress
from contlearn.processes.children import ChildLimits, MustStop, progress_of, run_child

__all__ = ["ask_child"]


def ask_child(
    module: str,
    arguments: Sequence[object],
    *,
    what: str,
    needed: str,
    log: Path,
    limits: ChildLimits,
    environ: Mapping[str, str],
    must_stop: MustStop | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Run `python -m module`, which ends with `answer_parent`, and give its answer.

    Args:
        module: What answers.
        arguments: Of its command line.
        what: What is asked for, as the beginning of a sentence that says that it failed.
        needed: A key that every answer has.
        log: Where its standard error goes.
        limits: What it may use.
        environ: Its environment.
        must_stop: Says when to end it.
        progress: Told how far it is.
    Raises:
        ContlearnError: What the child told, or that it ended without an answer.
        ChildStopped: When `must_stop` said so.
    """
    found: dict[str, Any] = {}

    def hear(message: Mapping[str, Any]) -> None:
        step = progress_of(message)
        if step is None:
            found.update(message)
        else:
            progress(*step)

    end = run_child(
        module,
        [str(argument) for argument in arguments],
        log=log,
        on_message=hear,
        must_stop=must_stop,
        environ=environ,
        limits=limits,
    )
    if end.failure is not None:
        raise end.failure
    if end.returncode != 0 or needed not in found:
        raise ContlearnError(
            f"{what} failed. {end.explain()}",
            where=str(log),
            hint="The log has what the child said last.",
        )
    return found
