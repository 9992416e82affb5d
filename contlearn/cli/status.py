"""`contlearn status`."""

from __future__ import annotations

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.command("status", help="Show what is served, what waits and what runs.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@json_option
@pass_settings
def command(settings: Settings, watch: bool, as_json: bool) -> None:
    """Print the state of the workspace."""
    from contlearn.pipeline.status import read_status

    with settings.open() as context:
        while True:
            value = read_status(context)

            def human(value: dict[str, object] = value) -> None:
                from contlearn.cli.reports import show_status

                if watch:
                    click.clear()
                show_status(value)

            print_result(value, as_json=as_json, human=human)
            if not watch:
                return
            context.clock.sleep(2.0)
