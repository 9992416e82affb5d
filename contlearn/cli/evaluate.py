"""`contlearn evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result, version_name


@click.command("evaluate", help="Score VERSION (or the champion) as it is served.")
@click.argument("version", required=False, type=version_name)
@click.option(
    "--on", type=click.Path(path_type=Path), help="A labelled file instead of the held-out sets."
)
@json_option
@pass_settings
def command(settings: Settings, version: int | str | None, on: Path | None, as_json: bool) -> None:
    """Measure with the exported model."""
    from contlearn.operations.evaluate import evaluate_version

    with settings.open() as context, settings.progress() as progress:
        value = evaluate_version(context, version, on=on, progress=progress)

    def human() -> None:
        from contlearn.cli.reports import show_evaluation

        show_evaluation(value)

    print_result(value, as_json=as_json, human=human)
