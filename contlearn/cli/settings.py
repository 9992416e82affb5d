"""What the commands share: the group's settings, opening a workspace, JSON and progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from contlearn.interfaces import Progress
    from contlearn.pipeline.context import Context

__all__ = [
    "Settings",
    "dry_run_option",
    "json_option",
    "pass_settings",
    "print_result",
    "reason_option",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the `contlearn` group."""

    root: Path
    verbose: int = 0
    quiet: bool = False
    plugins_dir: Path | None = None

    def open(self, overrides: Mapping[str, object] | None = None) -> Context:
        """Open the workspace."""
        from contlearn.pipeline.context import Context

        return Context.open(self.root, overrides=overrides, plugins_dir=self.plugins_dir)

    def remark(self, text: str) -> None:
        """Say something that is not the result, on standard error."""
        if not self.quiet:
            click.echo(text, err=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress bars on standard error while the block runs; nothing when piped."""
        import sys

        if self.quiet or not sys.stderr.isatty():
            from contlearn.interfaces import no_progress

            yield no_progress
            return
        from contlearn.cli.output import progress_bars

        with progress_bars() as progress:
            yield progress


def print_result(
    value: Mapping[str, Any] | list[Any], *, as_json: bool, human: Callable[[], None]
) -> None:
    """Print one JSON object, or what a person likes to read."""
    if as_json:
        from contlearn.workspace import plain

        click.echo(json.dumps(value, ensure_ascii=False, default=plain))
    else:
        human()


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
reason_option = click.option("--reason", default="", help="Why; kept in the journal.")
pass_settings = click.make_pass_decorator(Settings)
