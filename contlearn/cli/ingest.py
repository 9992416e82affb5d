"""`contlearn ingest`."""

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
)

_NAME_CHARACTERS = 200


@click.command("ingest", help="Check labelled files and take them in; the inbox if none is named.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "file_format", help="The format, where the file's name does not say it.")
@click.option("--source", "sources", multiple=True, help="Fetch a source of the configuration now.")
@click.option("--again", is_flag=True, help="Fetch the source from its start.")
@click.option(
    "--on-conflict",
    type=click.Choice(["quarantine", "newest", "all"]),
    help="Instead of data.on_conflict, for this time.",
)
@click.option("--held-out", is_flag=True, help="Keep all rows for measuring only.")
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    paths: tuple[Path, ...],
    file_format: str | None,
    sources: tuple[str, ...],
    again: bool,
    on_conflict: str | None,
    held_out: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take files in, or scan the inbox."""
    from contlearn.pipeline.taking import ingest_files

    with settings.open() as context, settings.progress() as progress:
        report = ingest_files(
            context,
            paths,
            sources=sources,
            again=again,
            on_conflict=on_conflict,
            format=file_format,
            held_out=held_out,
            dry_run=dry_run,
            progress=progress,
        )
    value = report.to_json()
    print_result(value, as_json=as_json, human=lambda: _show(value, dry_run=dry_run))
    for file in value["files"]:
        if file["verdict"] == "reject":
            settings.complain_quietly(f"{Path(file['path']).name}: {file['message']}")
    return int(report.exit_code)


def _show(value: dict[str, Any], *, dry_run: bool) -> None:
    from contlearn.cli.data import show_checked
    from contlearn.cli.output import one_line, table

    if not value["files"]:
        click.echo("There is no file to take in.")
        return
    table(
        ["file", "verdict", "accepted", "refused", "why"],
        [
            (Path(f["path"]).name, f["verdict"], f["accepted"], f["rejected"], f["reason"] or "")
            for f in value["files"]
        ],
        right=(2, 3),
    )
    if dry_run:
        show_checked(value)
    for file in () if dry_run else value["files"]:
        if file["verdict"] == "reject":
            hint = f" {file['hint']}" if file["hint"] else ""
            name = one_line(Path(file["path"]).name, _NAME_CHARACTERS)
            click.echo(f"{name}: {file['message']}{hint}")
    click.echo(
        f"{'Would accept' if dry_run else 'Accepted'} {value['accepted']} records; "
        f"{value['duplicates']} known already, {value['conflicts']} in conflict, "
        f"{value['rejected']} refused."
    )
    if value["quarantine"] and value["rejected"] + value["conflicts"]:
        click.echo(f"Refused rows with their reasons: {value['quarantine']}")
