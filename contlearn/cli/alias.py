"""`contlearn alias`."""

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


@click.group(
    "alias",
    help="Give versions names, usable wherever a VERSION is taken. `champion`, `previous` and "
    "`latest` stand for versions by themselves. A version with an alias is never deleted.",
)
def command() -> None:
    """Hold the three commands."""


@command.command("list", help="List the aliases.")
@json_option
@pass_settings
def list_command(settings: Settings, as_json: bool) -> None:
    """Print names and numbers."""
    from contlearn.registry.aliases import aliases

    with settings.open() as context:
        value = {"aliases": aliases(context.registry)}

    def human() -> None:
        from contlearn.cli.output import table

        if not value["aliases"]:
            click.echo("No alias was set; `contlearn alias set NAME VERSION` sets one.")
            return
        table(["alias", "version"], list(value["aliases"].items()), right=(1,))

    print_result(value, as_json=as_json, human=human)


@command.command("set", help="Let NAME stand for VERSION, whatever it stood for before.")
@click.argument("name")
@click.argument("version", type=version_name)
@reason_option
@dry_run_option
@json_option
@pass_settings
def set_command(
    settings: Settings, name: str, version: int | str, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Set one."""
    from contlearn.registry.aliases import resolve_version, set_alias

    with settings.open() as context:
        number = resolve_version(context.registry, version)
        before = set_alias(
            context.registry,
            name,
            number,
            actor=context.actor,
            reason=reason or "by hand",
            dry_run=dry_run,
        )
    value = {"alias": name, "version": number, "previous": before, "dry_run": dry_run}

    def human() -> None:
        word = "would stand" if dry_run else "stands"
        click.echo(f"{name} {word} for version {number} (before: {before or 'nothing'}).")

    print_result(value, as_json=as_json, human=human)


@command.command("delete", help="Take NAME away; its version stays.")
@click.argument("name")
@reason_option
@dry_run_option
@json_option
@pass_settings
def delete_command(
    settings: Settings, name: str, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Delete one."""
    from contlearn.registry.aliases import delete_alias

    with settings.open() as context:
        before = delete_alias(
            context.registry, name, actor=context.actor, reason=reason or "by hand", dry_run=dry_run
        )
    value = {"alias": name, "version": None, "previous": before, "dry_run": dry_run}

    def human() -> None:
        click.echo(f"{name} {'would be' if dry_run else 'is'} deleted (before: {before}).")

    print_result(value, as_json=as_json, human=human)
