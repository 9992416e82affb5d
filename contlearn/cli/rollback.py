"""`contlearn rollback`."""

from __future__ import annotations

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    reason_option,
    version_name,
)


@click.command("rollback", help="Go back to the former champion; a second one goes further back.")
@click.option("--to", metavar="VERSION", type=version_name, help="Go back to this version.")
@click.option(
    "--hold-records", is_flag=True, help="Hold the records learnt since, until they are released."
)
@reason_option
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    to: int | str | None,
    hold_records: bool,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Roll back by hand."""
    from contlearn.cycle.changes import roll_back

    with settings.open() as context:
        change = roll_back(context, to=to, hold=hold_records, reason=reason, dry_run=dry_run)
    value = change.to_json()

    def human() -> None:
        if dry_run:
            click.echo(f"Would go back from version {change.previous} to {change.champion}.")
            return
        click.echo(f"Version {change.champion} is the champion again (before: {change.previous}).")
        if change.records_held:
            click.echo(
                f"{change.records_held} records are held; `contlearn data release` lets them "
                "take part again."
            )
        elif change.records_released:
            click.echo(f"{change.records_released} records are pending again.")

    print_result(value, as_json=as_json, human=human)
