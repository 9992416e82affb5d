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
_LABEL_CHARACTERS = 80
_SHOWN_LABELS = 10


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
@click.option(
    "--bring-back-forgotten",
    is_flag=True,
    help="Take rows in again whose texts `data forget` took out.",
)
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
    bring_back_forgotten: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take files in, or scan the inbox."""
    from contlearn.operations.ingest import ingest_files

    with settings.open() as context, settings.progress() as progress:
        report = ingest_files(
            context,
            paths,
            sources=sources,
            again=again,
            on_conflict=on_conflict,
            format=file_format,
            held_out=held_out,
            bring_back_forgotten=bring_back_forgotten,
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
    for file in value["files"]:
        _show_labels(file)
    click.echo(
        f"{'Would accept' if dry_run else 'Accepted'} {value['accepted']} records; "
        f"{value['duplicates'] - value['forgotten']} known already, {value['conflicts']} in "
        f"conflict, {value['rejected']} refused."
    )
    if value["superseded"]:
        click.echo(f"{value['superseded']} earlier labels give way to newer ones.")
    if value["forgotten"]:
        click.echo(
            f"{value['forgotten']} rows were forgotten by `data forget`; "
            "`contlearn ingest --bring-back-forgotten FILE` brings them back."
        )
    _show_doubts(value["doubted"], accepted=value["accepted"])
    refused = value["rejected"] + value["conflicts"]
    if value["quarantine"] and refused and not value["dry_run"]:
        click.echo(f"Refused rows with their reasons: {value['quarantine']}")


def _show_labels(file: dict[str, Any]) -> None:
    """Print what was found of labels: slips that wait, and what was kept though it is close."""
    from contlearn.cli.output import one_line

    refused = [item for item in file["near_labels"] if item["refused"]]
    for item in refused[:_SHOWN_LABELS]:
        one = item["rows"] == 1
        rows, verb = ("1 row", "waits") if one else (f"{item['rows']:,} rows", "wait")
        label, near = (one_line(item[key], _LABEL_CHARACTERS) for key in ("label", "near"))
        click.echo(
            f"{rows} with the new label {label!r} {verb} in the quarantine: it is close to "
            f"{near!r} ({item['near_rows']:,} rows)."
        )
        if item["accept_as_near"]:
            click.echo(f"  if {near!r} is meant: {item['accept_as_near']}")
            click.echo(f"  if both are meant: {item['accept_as_new']}")
    if len(refused) > _SHOWN_LABELS:
        click.echo(f"… and {len(refused) - _SHOWN_LABELS:,} more such labels (--json lists them).")
    for warning in file["warnings"]:
        if warning["code"] in ("near-kept", "null-label"):
            for example in warning["examples"]:
                click.echo(f"Warning: {example['message']}")


def _show_doubts(doubted: dict[str, Any] | None, *, accepted: int) -> None:
    """Say which of the new labels the champion doubts, or why it was not asked."""
    from contlearn.cycle.doubting import in_words

    if doubted is None or not accepted or doubted["version"] is None:
        return
    if doubted["not_looked_at"]:
        click.echo(f"The new labels were not looked at for doubts: {doubted['not_looked_at']}.")
        return
    if doubted["number"]:
        click.echo(f"{in_words(doubted)} (`contlearn data suspects`).")
    if doubted["strange"]:
        click.echo(
            f"{doubted['strange']} records have labels that the champion does not know; the update "
            "that learns them looks at those."
        )
