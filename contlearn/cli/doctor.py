"""`contlearn doctor`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.command("doctor", help="Check this machine and this installation; exit 1 on a problem.")
@json_option
@pass_settings
def command(settings: Settings, as_json: bool) -> int:
    """Run every check and show what to do about each problem."""
    from contlearn.operations.doctor import examine

    checks = examine(settings.root, plugins_dir=settings.plugins_dir)
    failed = [check for check in checks if check.ok is False]

    def human() -> None:
        from contlearn.cli.output import Marked, table

        signs = {
            True: Marked("[green]ok[/green]"),
            False: Marked("[red]problem[/red]"),
            None: Marked("[dim]–[/dim]"),
        }
        table(
            ["", "check", "found"],
            [(signs[check.ok], check.name, check.found) for check in checks],
        )
        for check in failed:
            click.echo(f"{check.name}: {check.hint}")
        click.echo("Everything needed is there." if not failed else f"{len(failed)} problems.")

    value = {"ok": not failed, "checks": [check.to_json() for check in checks]}
    print_result(value, as_json=as_json, human=human)
    for check in failed:
        settings.complain_quietly(f"{check.name}: {check.found}. {check.hint}")
    return 1 if failed else 0
