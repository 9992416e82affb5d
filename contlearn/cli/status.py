"""`contlearn status`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result
from contlearn.cli.terminal import as_json_text


@click.command("status", help="Show what is served, what waits and what runs.")
@click.option("--watch", is_flag=True, help="A live view, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600.0),
    default=2.0,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@json_option
@pass_settings
def command(settings: Settings, watch: bool, every: float, as_json: bool) -> None:
    """Print the state of the workspace."""
    from contlearn.operations.status import read_status

    with settings.open() as context:
        if not watch:
            value = read_status(context)

            def human() -> None:
                from contlearn.cli.reports import show_status

                show_status(value, context.clock.now())

            print_result(value, as_json=as_json, human=human)
            return
        if as_json:
            while True:  # one object a line, for programs
                click.echo(as_json_text(read_status(context)))
                context.clock.sleep(every)
        from contlearn.cli.live import show_live

        show_live(lambda: read_status(context), lambda: context.clock.sleep(every))
