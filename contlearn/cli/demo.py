"""`contlearn demo`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings
from contlearn.interfaces import Progress


@click.command("demo", help="Run a real story from data to rollback, in DIR or a new folder.")
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--texts",
    default=240,
    show_default=True,
    type=click.IntRange(60, 1000),
    help="Sentences of each kind.",
)
@json_option
@pass_settings
def command(settings: Settings, folder: Path | None, texts: int, as_json: bool) -> None:
    """Tell the story on the terminal."""
    import json
    import tempfile

    from contlearn.demo.story import tell

    root = folder or Path(tempfile.mkdtemp(prefix="contlearn-demo-")) / "kinds"
    narrator = _Silent(settings) if as_json else _Teller(settings)
    result = tell(root, narrator, per_kind=texts)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    click.echo()
    click.secho("What to try next", bold=True)
    for line in (
        "status                       what is served, what is pending",
        "history                      every cycle, promotion and rollback",
        "update                       learn the last delivery again",
        'predict "your own sentence"  ask the champion',
        "serve                        answer over HTTP; then open the address it prints",
        "daemon                       watch the inbox by itself",
    ):
        click.echo(f"  contlearn --workspace {root} {line}")


class _Silent:
    """Shows only progress."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def chapter(self, title: str, text: str) -> None:
        """Show nothing."""

    def update(self, result: Any) -> None:
        """Show nothing."""

    def growth(self, rows: Sequence[tuple[str, float, float]]) -> None:
        """Show nothing."""

    def predictions(self, texts: Sequence[str], values: Sequence[dict[str, Any]]) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Remark on standard error."""
        self.settings.remark(text)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show bars where a person looks."""
        with self.settings.progress() as progress:
            yield progress


class _Teller(_Silent):
    """Shows everything."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a part."""
        click.echo()
        click.secho(title, bold=True, fg="cyan")
        click.echo(text)

    def update(self, result: Any) -> None:
        """Show the outcome with its reasons."""
        from contlearn.cli.reports import show_update

        show_update(result.to_json())
        if result.error is not None:
            raise result.error

    def growth(self, rows: Sequence[tuple[str, float, float]]) -> None:
        """Show a line for each delivery."""
        from contlearn.cli.output import table
        from contlearn.wording import percent

        table(
            ["after", "right", "plain fine-tuning*"],
            [(title, percent(share), percent(plain)) for title, share, plain in rows],
            right=(1, 2),
        )
        click.echo(
            "* each time on the new delivery alone; measured beforehand, not in this run "
            "(python -m tests.benchmarks.demo)"
        )

    def predictions(self, texts: Sequence[str], values: Sequence[dict[str, Any]]) -> None:
        """Show texts and answers."""
        from contlearn.cli.output import table
        from contlearn.wording import percent

        table(
            ["text", "label", "confidence"],
            [
                (text, value["label"], percent(value["confidence"]))
                for text, value in zip(texts, values, strict=True)
            ],
            right=(2,),
        )

    def say(self, text: str) -> None:
        """Say one line."""
        click.echo(text)
