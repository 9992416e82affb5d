"""`contlearn promote`."""

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


@click.command("promote", help="Make VERSION the champion; it approves a waiting challenger too.")
@click.argument("version", type=version_name)
@click.option(
    "--force", is_flag=True, help="Also a version that the gate refused; asks for --reason."
)
@reason_option
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings, version: int | str, force: bool, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Promote by hand."""
    from contlearn.cycle.changes import promote_version

    with settings.open() as context:
        change = promote_version(context, version, reason=reason, force=force, dry_run=dry_run)
    value = change.to_json()

    def human() -> None:
        if dry_run:
            click.echo(
                f"Version {version} could be promoted; the champion stays {change.champion}."
            )
            return
        if change.champion == change.previous:
            click.echo(f"Version {change.champion} is the champion already; nothing was changed.")
            return
        click.echo(f"Version {change.champion} is the champion (before: {change.previous}).")
        for note in change.notes:
            click.echo(note)
        if change.records_released:
            click.echo(f"{change.records_released} records are pending again.")

    print_result(value, as_json=as_json, human=human)
