"""`contlearn suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    version_name,
)


@click.command(
    "suggest",
    help="Choose the unlabelled texts most worth a label: unsure, new, and unlike each other.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    help="One text or JSON object a line; if left out, what the server was asked "
    "(monitoring.log_text).",
)
@click.option("--count", type=click.IntRange(1, 5_000), default=50, help="How many; 50.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["jsonl", "csv", "label-studio", "doccano", "prodigy"]),
    default="jsonl",
    help="For which tool --output is written.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write them to this file."
)
@click.option(
    "--version", metavar="VERSION", type=version_name, help="Another version than the champion."
)
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    source: Path | None,
    count: int,
    style: str,
    output: Path | None,
    version: int | str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Choose, show, and write where asked."""
    from contlearn.operations.suggest import suggest_texts
    from contlearn.operations.suggestion_files import write_suggestions

    with settings.open() as context, settings.progress() as progress:
        value = suggest_texts(
            context, source=source, count=count, version=version, progress=progress
        )
        fields = context.config.data.field_names()
        log, task = context.workspace.predictions, context.task
        own = context.workspace.own_folders(context.config)
    if output is not None and not dry_run:
        came_from = log.rglob("*.jsonl") if source is None else (source,)
        write_suggestions(value, output, style, fields, task=task, came_from=came_from, own=own)
    value |= {"path": None if output is None else str(output), "dry_run": dry_run}
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import number, table

    table(
        ["worth", "unsure", "new", "text"],
        [
            (
                number(row["worth"], 2),
                number(row["uncertainty"], 2),
                number(row["novelty"], 2),
                row["text"],
            )
            for row in value["suggestions"]
        ],
        right=(0, 1, 2),
    )
    if value["path"] and not value["dry_run"]:
        click.echo(f"{len(value['suggestions'])} texts written to {value['path']}.")
