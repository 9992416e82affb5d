"""`contlearn bench`: measuring on this machine."""

from __future__ import annotations

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


@click.group("bench", help="Measure on this machine.")
def command() -> None:
    """Hold the commands."""


@command.command(
    "serving",
    help="Find how this machine serves a version fastest: threads, threads of one run, texts of "
    "one batch. The server takes the best layout up at its next start.",
)
@click.option(
    "--version", metavar="VERSION", type=version_name, help="Another version than the champion."
)
@click.option(
    "--seconds", type=click.FloatRange(0.05, 60.0), default=1.0, help="For each layout; 1 second."
)
@dry_run_option
@json_option
@pass_settings
def serving(
    settings: Settings, version: int | str | None, seconds: float, dry_run: bool, as_json: bool
) -> None:
    """Try the layouts, keep the best."""
    from contlearn.pipeline.answers import chosen_version
    from contlearn.serving.measuring import measure_layouts

    with settings.open() as context, settings.progress() as progress:
        chosen = chosen_version(context, version)
        value = measure_layouts(
            chosen.path / "onnx",
            context.manager,
            context.workspace.state / "serving",
            seconds=seconds,
            keep=not dry_run,
            progress=progress,
        )
    value |= {"version": chosen.version, "dry_run": dry_run}
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import number, table

    best = value["best"]
    table(
        ["threads", "threads of a run", "texts of a batch", "texts/s", "p95 ms", ""],
        [
            (
                trial["threads"],
                trial["intra_threads"],
                trial["batch_texts"],
                number(trial["texts_per_second"], 0),
                number(trial["p95_milliseconds"], 1),
                "taken" if trial == best else "",
            )
            for trial in value["trials"]
        ],
        right=(0, 1, 2, 3, 4),
    )
    kept = "Not kept (--dry-run)." if value["dry_run"] else f"Kept in {value['path']}."
    click.echo(f"{kept} Restart `contlearn serve` to use it.")
