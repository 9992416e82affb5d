"""`contlearn report`."""

from __future__ import annotations

from pathlib import Path

import click

from contlearn.cli.settings import (
    Settings,
    json_option,
    pass_settings,
    print_result,
    version_name,
)


@click.command("report", help="Write a page: the model's history (--all), or one version.")
@click.argument("version", required=False, type=version_name)
@click.option("--all", "everything", is_flag=True, help="The history of the model.")
@click.option(
    "--flips",
    type=click.IntRange(0, 50),
    default=0,
    show_default=True,
    help="Of a version: show so many held-out texts that the champion had right and it has not, "
    "with the words that decided.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page is written; reports/ in the workspace if left out.",
)
@json_option
@pass_settings
def command(
    settings: Settings,
    version: int | str | None,
    everything: bool,
    flips: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write one self-contained page and say where it is."""
    from contlearn.errors import UsageError
    from contlearn.operations.report import report_all, report_version

    if everything and (version is not None or flips):
        raise UsageError(
            "--all is about the model's whole history, a version and --flips about one version.",
            where="report",
            hint="Leave either out.",
        )
    with settings.open() as context:
        if everything:
            value = report_all(context, output)
        else:
            value = report_version(context, version, output, flips=flips)
    print_result(value, as_json=as_json, human=lambda: click.echo(str(value["path"])))
