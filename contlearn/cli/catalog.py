"""`contlearn catalog claim`."""

from __future__ import annotations

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
)


@click.group("catalog", help="Look after the database that the records stand in.")
def command() -> None:
    """Group the commands."""


@command.command("claim", help="Make the configured catalog this workspace's, and nobody else's.")
@dry_run_option
@json_option
@pass_settings
def claim(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Write down that the catalog belongs to this workspace from now on."""
    from contlearn.catalog.belonging import claim_catalog

    with settings.open() as context:
        claimed = claim_catalog(context.workspace, context.config, dry_run=dry_run)
    value = {
        "catalog": claimed.catalog,
        "workspace": claimed.workspace,
        "before": claimed.before,
        "claimed": not dry_run,
    }

    def human() -> None:
        would = "would be" if dry_run else "is now"
        click.echo(f"{claimed.catalog} {would} the catalog of {claimed.workspace}.")
        if claimed.before is not None:
            click.echo(f"Before it was that of {claimed.before}.")

    print_result(value, as_json=as_json, human=human)
