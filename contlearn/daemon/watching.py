"""The daemon's regular look at production, in a child: drift needs numpy, the daemon none."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contlearn.context import Context
from contlearn.errors import ContlearnError, EvaluationError
from contlearn.monitoring.signals import signals_path
from contlearn.processes.children import MustStop, die_with_parent, run_child

__all__ = ["Watcher", "main"]


@dataclass
class Watcher:
    """Looks at production if anything was answered or labelled since the last look.

    Args:
        context: The opened workspace; its folders are used, not its connections.
        must_stop: Says when to end a running child.
        plugins_dir: A folder of loose plugin files that the child must load too.
    """

    context: Context
    must_stop: MustStop | None = None
    plugins_dir: Path | None = None
    _seen: tuple[float, int] | None = field(default=None, init=False)

    def look(self) -> bool:
        """Look in a child, unless nothing is new.

        Returns:
            Whether it looked.
        Raises:
            ChildStopped: When `must_stop` said so meanwhile.
            EvaluationError: When the child failed.
        """
        newest = self._newest()
        if newest is None or newest == self._seen:
            return False
        workspace = self.context.workspace
        log = signals_path(workspace.state).with_name("look.log")
        log.unlink(missing_ok=True)  # the newest look's words only
        arguments = [str(workspace.root)]
        if self.plugins_dir is not None:
            arguments.append(str(self.plugins_dir))
        end = run_child(
            "contlearn.daemon.watching",
            arguments,
            log=log,
            on_message=lambda _: None,
            must_stop=self.must_stop,
            grace_seconds=2.0,
            environ=self.context.for_children(),
        )
        if end.returncode != 0:
            raise EvaluationError(
                f"The look at production failed. {end.explain()}",
                where=str(log),
                hint="`contlearn drift --record` by hand says more.",
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
    """Look at the workspace named and write the signals down."""
    die_with_parent()
    from contlearn.operations.drift import look, record_look

    given = sys.argv[1:] if arguments is None else list(arguments)
    plugins_dir = Path(given[1]) if len(given) > 1 else None
    try:
        with Context.open(Path(given[0]), plugins_dir=plugins_dir) as context:
            try:
                value = look(context, examples=0)
            except EvaluationError:  # too little to judge yet
                record_look(context, None)
            else:
                record_look(context, value)
    except ContlearnError as error:
        sys.stderr.write(json.dumps(error.to_json(), ensure_ascii=False) + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
