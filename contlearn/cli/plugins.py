"""`contlearn plugins list` and `contlearn plugins check`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.group("plugins", help="List plugins and check them.")
def command() -> None:
    """Group the commands."""


@command.command("list", help="Show every plugin, what it registers, and which ones failed.")
@json_option
@pass_settings
def list_plugins(settings: Settings, as_json: bool) -> None:
    """Print the plugins of this environment."""
    from contlearn.plugins.manager import PluginManager

    rows = PluginManager(folder=settings.plugins_dir).list()

    def human() -> None:
        from contlearn.cli.output import table

        table(
            ["plugin", "distribution", "registers"],
            [
                (
                    row["name"],
                    row["distribution"],
                    f"FAILED: {row['error']}"
                    if row["error"]
                    else ", ".join(map(str, row["registers"])) or "observers only",  # type: ignore[call-overload]  # a list
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
    from contlearn.plugins.manager import PluginManager
    from contlearn.testing.checks import check_all

    problems = check_all(PluginManager(folder=settings.plugins_dir))

    def human() -> None:
        for problem in problems:
            click.echo(problem)
        many = "1 problem." if len(problems) == 1 else f"{len(problems)} problems."
        click.echo(many if problems else "All plugins are well.")

    print_result({"problems": problems}, as_json=as_json, human=human)
    for problem in problems:
        settings.complain_quietly(problem)
    return 1 if problems else 0
