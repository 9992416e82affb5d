"""`contlearn data …`: looking after records and the quarantine."""

from __future__ import annotations

from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    reason_option,
)


@click.group("data", help="Look after records and the quarantine.")
def command() -> None:
    """Group the commands."""


@command.command("list", help="Count records by state and list the newest.")
@click.option("--state", type=click.Choice(["pending", "learnt", "refused", "held", "forgotten"]))
@click.option("--split", type=click.Choice(["train", "held_out"]))
@click.option("--label", help="Only records of this label.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def list_command(
    settings: Settings,
    state: str | None,
    split: str | None,
    label: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print counts and records, without their texts."""
    from contlearn.pipeline.records import list_records

    with settings.open() as context:
        value = list_records(context, state=state, split=split, label=label, limit=limit)

    def human() -> None:
        from contlearn.cli.output import moment, table

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
            )

    print_result(value, as_json=as_json, human=human)


@command.command("show", help="Show one record with its text.")
@click.argument("record_id")
@json_option
@pass_settings
def show_command(settings: Settings, record_id: str, as_json: bool) -> None:
    """Print one record."""
    from contlearn.pipeline.records import show_record

    with settings.open() as context:
        value = show_record(context, record_id)

    def human() -> None:
        from contlearn.cli.output import table

        table(["", ""], [(key, "–" if item is None else item) for key, item in value.items()])

    print_result(value, as_json=as_json, human=human)


@command.command("quarantine", help="List refused rows by reason.")
@click.option("--reason", help="Only rows refused for this reason.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def quarantine_command(settings: Settings, reason: str | None, limit: int, as_json: bool) -> None:
    """Print counts by reason and the first rows."""
    from contlearn.pipeline.records import list_quarantine

    with settings.open() as context:
        value = list_quarantine(context, reason=reason, limit=limit)

    def human() -> None:
        from contlearn.cli.output import table

        if not value["counts"]:
            click.echo("The quarantine is empty.")
            return
        table(["reason", "rows"], list(value["counts"].items()), right=(1,))
        table(
            ["file", "line", "reason", "message"],
            [(r["source"], r["line_number"], r["reason"], r["message"]) for r in value["rows"]],
            right=(1,),
        )

    print_result(value, as_json=as_json, human=human)


@command.command("hold", help="Keep records out of updates until they are released.")
@click.argument("record_ids", nargs=-1, required=True)
@reason_option
@dry_run_option
@json_option
@pass_settings
def hold_command(
    settings: Settings, record_ids: tuple[str, ...], reason: str, dry_run: bool, as_json: bool
) -> None:
    """Hold records by id."""
    from contlearn.pipeline.records import hold

    with settings.open() as context:
        number = 0 if dry_run else hold(context, record_ids, reason=reason or "held by hand")
    _changed("held", number, len(record_ids), dry_run=dry_run, as_json=as_json)


@command.command("release", help="Let held records take part again: those named, or all.")
@click.argument("record_ids", nargs=-1)
@reason_option
@dry_run_option
@json_option
@pass_settings
def release_command(
    settings: Settings, record_ids: tuple[str, ...], reason: str, dry_run: bool, as_json: bool
) -> None:
    """Release records."""
    from contlearn.pipeline.records import release
    from contlearn.pipeline.status import read_status

    with settings.open() as context:
        held = len(record_ids) or int(read_status(context)["held_records"])
        number = (
            0
            if dry_run
            else release(context, record_ids or None, reason=reason or "released by hand")
        )
    _changed("released", number, held, dry_run=dry_run, as_json=as_json)


def _changed(verb: str, number: int, asked: int, *, dry_run: bool, as_json: bool) -> None:
    value: dict[str, Any] = {verb: number, "dry_run": dry_run}

    def human() -> None:
        click.echo(f"{asked} records would be {verb}." if dry_run else f"{number} records {verb}.")

    print_result(value, as_json=as_json, human=human)
