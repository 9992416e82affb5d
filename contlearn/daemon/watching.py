"""The daemon's regular look at production, in a child: drift needs numpy, the daemon none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contlearn.context import Context
from contlearn.errors import TooFewPredictions
from contlearn.monitoring.signals import signals_path
from contlearn.processes.answering import answer_parent
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits, MustStop

__all__ = ["Watcher", "main"]


@dataclass
class Watcher:
    """Looks at production if anything was answered or labelled since the last look.

    Args:
        context: The opened workspace; its folders are used, not its connections.
        must_stop: Says when to end a running child.
    """

    context: Context
    must_stop: MustStop | None = None
    _seen: tuple[float, int] | None = field(default=None, init=False)

    def look(self) -> bool:
        """Look in a child, unless nothing is new.

        Returns:
            Whether it looked.
        Raises:
            ChildStopped: When `must_stop` said so meanwhile.
            ContlearnError: What the child told, or that it ended without an answer.
        """
        newest = self._newest()
        if newest is None or newest == self._seen:
            return False
        workspace = self.context.workspace
        log = signals_path(workspace.state).with_name("look.log")
        log.unlink(missing_ok=True)  # the newest look's words only
        ask_child(
            "contlearn.daemon.watching",
            [workspace.root],
            what="The look at production",
            needed="version",
            log=log,
            limits=ChildLimits(),
            environ=self.context.for_children(),
            must_stop=self.must_stop,
        )
        self._seen = newest
        return True

    def _newest(self) -> tuple[float, int] | None:
        """Give when the log or the labels last changed, and their size; None without a log."""
        moment, size = 0.0, 0
        workspace = self.context.workspace
        for folder in (workspace.predictions, workspace.state / "feedback"):
            for path in folder.glob("*.jsonl"):
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    moment, size = max(moment, facts.st_mtime), size + facts.st_size
        return (moment, size) if size else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the workspace named, write the signals down, and answer the parent."""
    (root,) = map(Path, sys.argv[1:] if arguments is None else arguments)

    def look_once() -> dict[str, object]:
        from contlearn.operations.drift import look_and_record

        with Context.open(root) as context:
            try:
                value = look_and_record(context, examples=0)
            except TooFewPredictions:
                return {"version": None}
            return {"version": value["version"]}

    return answer_parent(look_once)


if __name__ == "__main__":
    sys.exit(main())
