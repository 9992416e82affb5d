"""`contlearn plugins list` and `contlearn plugins check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager


@click.group("plugins", help="List plugins and check them.")
def command() -> None:
    """Group the commands."""


def _manager(settings: Settings) -> PluginManager:
    """Load all plugins, their commands too; what is broken is printed, so the log keeps quiet."""
    from contlearn.cli import COMMANDS
    from contlearn.plugins.manager import PluginManager

    manager = PluginManager(folder=settings.plugins_dir, quiet=True)
    manager.add_commands(click.Group(), taken=COMMANDS)
    return manager


def _said(row: Mapping[str, Any]) -> str:
    brought = ", ".join(row["registers"])
    failed = f"FAILED: {row['error']}" if row["error"] else ""
    return "; ".join(filter(None, (brought, failed))) or "observers only"


@command.command("list", help="Show every plugin, what it registers, and which ones failed.")
@json_option
@pass_settings
def list_plugins(settings: Settings, as_json: bool) -> None:
    """Print the plugins of this environment."""
    rows = _manager(settings).list()

    def human() -> None:
        from contlearn.cli.output import table

        table(
            ["plugin", "distribution", "registers"],
            [
                (
                    row["name"],
                    row["distribution"],
                    _said(row),
                )
                for row in rows
            ],
        )

    print_result({"plugins": rows}, as_json=as_json, human=human)


@command.command("check", help="Check every class that plugins register; exit 1 if one is wrong.")
@json_option
@pass_settings
def check_plugins(settings: Settings, as_json: bool) -> int:
    """Run the checks of the public kit over all registered classes."""
    from contlearn.testing.checks import check_all

    problems = check_all(_manager(settings))

    def human() -> None:
        for problem in problems:
            click.echo(problem)
        many = "1 problem." if len(problems) == 1 else f"{len(problems)} problems."
        click.echo(many if problems else "All plugins are well.")

    print_result({"problems": problems}, as_json=as_json, human=human)
    for problem in problems:
        settings.complain_quietly(problem)
    return 1 if problems else 0
