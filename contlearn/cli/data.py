"""`contlearn data …`: looking after records and the quarantine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from contlearn.cli.labels import labels_command
from contlearn.cli.quarantine import quarantine_command
from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    reason_option,
)
from contlearn.cli.suspects import suspects_command
from contlearn.types import RecordState

if TYPE_CHECKING:
    from contlearn.context import Context
    from contlearn.data.selection import Selection

_PATH_CHARACTERS = 1_000
F = TypeVar("F", bound=Callable[..., Any])


@click.group("data", help="Look after records and the quarantine.")
def command() -> None:
    """Group the commands."""


@command.command("list", help="Count records by state and list the newest.")
@click.option("--state", type=click.Choice(get_args(RecordState)))
@click.option("--split", type=click.Choice(["train", "held_out"]))
@click.option("--label", help="Only records of this label.")
@click.option("--file", "file", help="Only records of this file, by name or hash.")
@click.option("--since", type=click.DateTime(), help="Taken in then (UTC) or later.")
@click.option("--until", type=click.DateTime(), help="Taken in before this moment (UTC).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def list_command(
    settings: Settings,
    state: str | None,
    split: str | None,
    label: str | None,
    file: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print counts and records, without their texts."""
    from contlearn.operations.records import list_records

    with settings.open() as context:
        value = list_records(
            context,
            state=state,
            split=split,
            label=label,
            file=file,
            since=_utc(since),
            until=_utc(until),
            limit=limit,
        )

    def human() -> None:
        from contlearn.cli.output import table
        from contlearn.wording import moment

        click.echo(
            ", ".join(f"{number} {name}" for name, number in value["counts"].items())
            or "There are no records yet."
        )
        if value["records"]:
            table(
                ["record", "label", "split", "state", "received", "source", "why"],
                [
                    (
                        r["record_id"],
                        r["label"],
                        r["split"],
                        r["state"],
                        moment(r["received_at"]),
                        r["source"],
                        r["reason"] or "",
                    )
                    for r in value["records"]
                ],
                cut=6,
            )

    print_result(value, as_json=as_json, human=human)


@command.command("show", help="Show one record with its text.")
@click.argument("record_id")
@json_option
@pass_settings
def show_command(settings: Settings, record_id: str, as_json: bool) -> None:
    """Print one record."""
    from contlearn.operations.records import show_record

    with settings.open() as context:
        value = show_record(context, record_id)

    def human() -> None:
        from contlearn.cli.output import table

        table(["", ""], [(key, "–" if item is None else item) for key, item in value.items()])

    print_result(value, as_json=as_json, human=human)


@command.command("check", help="Say what taking files in would do; nothing is written.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "file_format", help="The format, where the file's name does not say it.")
@json_option
@pass_settings
def check_command(
    settings: Settings, paths: tuple[Path, ...], file_format: str | None, as_json: bool
) -> int:
    """Print counts and the first examples of each problem."""
    from contlearn.data.intake.ingest import ingest_paths
    from contlearn.operations.ingest import intake_of

    with settings.open() as context, settings.progress() as progress:
        intake = intake_of(context, format=file_format, dry_run=True, progress=progress)
        report = ingest_paths(intake, list(paths))
    value = report.to_json()
    print_result(value, as_json=as_json, human=lambda: show_checked(value))
    for file in value["files"]:
        if file["verdict"] == "reject":
            settings.complain_quietly(f"{Path(file['path']).name}: {file['message']}")
    return report.exit_code


def show_checked(value: dict[str, Any]) -> None:
    """Print what would happen to each file, with the first examples of each problem."""
    from contlearn.cli.output import one_line

    for file in value["files"]:
        click.echo(
            f"{one_line(file['path'], _PATH_CHARACTERS)}: {file['verdict']}; {file['rows']} rows, "
            f"{file['accepted']} would be accepted, {file['duplicates']} are known, "
            f"{file['conflicts']} in conflict, {file['rejected']} refused."
        )
        for title, entries in (("", file["problems"]), ("warning: ", file["warnings"])):
            for entry in entries:
                click.echo(f"  {title}{entry['code']} ({entry['count']})")
                for example in entry["examples"]:
                    where = f"line {example['line_number']}: " if "line_number" in example else ""
                    hint = f" {example['hint']}" if "hint" in example else ""
                    click.echo(f"    {where}{example['message']}{hint}")


def selection_options(function: F) -> F:
    """Add the ways to choose records: ids, or file, label and time together."""
    for add in (
        click.option("--until", type=click.DateTime(), help="Taken in before this moment (UTC)."),
        click.option("--since", type=click.DateTime(), help="Taken in then (UTC) or later."),
        click.option("--group", "groups", multiple=True, help="All of a customer, a document, …"),
        click.option("--label", "labels", multiple=True, help="All records of a label."),
        click.option("--file", "files", multiple=True, help="All of a file, by name or hash."),
        click.argument("record_ids", nargs=-1),
    ):
        function = add(function)
    return function


def _selection(context: Context, options: dict[str, Any]) -> Selection:
    from contlearn.data.intake.known import chosen_labels
    from contlearn.data.selection import Selection

    labels = options["labels"]
    if labels:
        with context.catalog.read() as connection:
            labels = chosen_labels(connection, context.config.data, labels)
    return Selection(
        separator=context.task.key_separator,
        record_ids=options["record_ids"],
        files=options["files"],
        labels=labels,
        groups=options["groups"],
        since=_utc(options["since"]),
        until=_utc(options["until"]),
    )


@command.command("hold", help="Keep records out of updates until they are released.")
@selection_options
@reason_option
@dry_run_option
@json_option
@pass_settings
def hold_command(
    settings: Settings, /, reason: str, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Hold the records that are chosen."""
    from contlearn.data.selection import select_records
    from contlearn.operations.records import hold

    with settings.open() as context:
        ids = select_records(context.catalog, _selection(context, options))
        number = hold(context, ids, reason=reason, dry_run=dry_run)
    _changed("held", number, dry_run=dry_run, as_json=as_json)


@command.command("release", help="Let held records take part again: those chosen, or all.")
@selection_options
@reason_option
@dry_run_option
@json_option
@pass_settings
def release_command(
    settings: Settings, /, reason: str, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Release held records."""
    from contlearn.data.selection import Selection, select_records
    from contlearn.operations.records import release

    with settings.open() as context:
        chosen = _selection(context, options) or Selection(states=("held",))
        ids = select_records(context.catalog, chosen)
        number = release(context, ids, reason=reason, dry_run=dry_run)
    _changed("released", number, dry_run=dry_run, as_json=as_json)


@command.command("forget", help="Forget records for good: their texts leave all that is kept.")
@selection_options
@reason_option
@dry_run_option
@json_option
@pass_settings
def forget_command(
    settings: Settings, /, reason: str, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Forget the records that are chosen; what is left of them is the id."""
    from contlearn.data.selection import select_records
    from contlearn.operations.records import forget

    with settings.open() as context:
        ids = select_records(context.catalog, _selection(context, options))
        report = forget(context, ids, reason=reason, dry_run=dry_run)
    _changed("forgotten", report.records, dry_run=dry_run, as_json=as_json, notes=report.notes)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _changed(
    verb: str,
    number: int,
    *,
    dry_run: bool,
    as_json: bool,
    notes: Sequence[str] | None = None,
) -> None:
    value: dict[str, Any] = {verb: number, "dry_run": dry_run}
    if notes is not None:
        value["notes"] = list(notes)

    def human() -> None:
        click.echo(f"{number} records {'would be ' if dry_run else ''}{verb}.")
        for note in notes or ():
            click.echo(f"{note[:1].upper()}{note[1:]}.")

    print_result(value, as_json=as_json, human=human)


command.add_command(quarantine_command)
command.add_command(labels_command)
command.add_command(suspects_command)
