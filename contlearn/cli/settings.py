"""What the commands share: the group's settings, opening a workspace, JSON and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from contlearn.cli.terminal import as_json_text, quiet_pipe

if TYPE_CHECKING:
    from contlearn.context import Context
    from contlearn.interfaces import Progress

__all__ = [
    "Settings",
    "dry_run_option",
    "json_option",
    "pass_settings",
    "past_moment",
    "print_result",
    "reason_option",
    "version_name",
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
        from contlearn.context import Context

        return Context.open(self.root, overrides=overrides, plugins_dir=self.plugins_dir)

    def each(self, workspaces: Sequence[Path]) -> list[Settings]:
        """Give the settings of every workspace named, or these when none is."""
        return [replace(self, root=root) for root in workspaces] or [self]

    def remark(self, text: str) -> None:
        """Say something that is not the result, on standard error."""
        if not self.quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Say on standard error why a command did not do what was asked; also when quiet."""
        with quiet_pipe():
            click.echo(text, err=True)

    def complain_quietly(self, text: str) -> None:
        """Say why on standard error where the result is not looked at (`-q … > /dev/null`)."""
        if self.quiet:
            self.complain(text)

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


def version_name(text: str) -> int | str:
    """Read a version by number ("3", "v3") or by alias; whether it is there is asked later.

    Example:
        >>> version_name("3"), version_name("v12"), version_name("production")
        (3, 12, 'production')
    """
    import re

    if re.fullmatch(r"v?0*[1-9][0-9]*", text):
        return int(text.removeprefix("v"))
    if re.fullmatch(r"[a-z][a-z0-9._-]{0,62}", text) and not re.fullmatch(r"v0+", text):
        return text
    raise click.BadParameter(
        f"{text!r} names no version: give a number from 1 on, champion, previous, latest, "
        "or an alias."
    )


def past_moment(text: str) -> datetime:
    """Read ISO 8601 (UTC without an offset), "now", or how long ago ("90m", "2h", "3d")."""
    from contlearn.config import parse_duration

    text = text.strip()
    if text == "now":
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            # A bare number is rather a mistyped year than seconds.
            seconds = parse_duration(text if text[-1:].isalpha() else "")
            return datetime.now(UTC) - timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            raise click.BadParameter(
                f"{text!r} is no moment: write 2030-05-31, 2030-05-31T14:00, "
                "2030-05-31T14:00+02:00, or how long ago, as in 2h or 3d."
            ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def print_result(
    value: Mapping[str, Any] | list[Any], *, as_json: bool, human: Callable[[], None]
) -> None:
    """Print one JSON object, or what a person likes to read."""
    with quiet_pipe():
        if as_json:
            from contlearn.workspace import plain

            click.echo(as_json_text(value, default=plain))
        else:
            human()


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
reason_option = click.option("--reason", default="", help="Why; kept in the journal.")
pass_settings = click.make_pass_decorator(Settings)
