"""`contlearn export`."""

from __future__ import annotations

from pathlib import Path

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
    version_name,
)


@click.command(
    "export",
    help="Copy VERSION (or the champion) into DIR, as optimum, onnxruntime and Triton load it.",
)
@click.argument("places", metavar="[VERSION] DIR", nargs=-1, required=True)
@click.option(
    "--precision",
    type=click.Choice(["as-is", "auto", "fp32", "int8", "int8-static", "fp16"]),
    default="as-is",
    show_default=True,
    help="Another precision is exported from the version's checkpoint, checked for parity.",
)
@dry_run_option
@json_option
@pass_settings
def command(
    settings: Settings,
    places: tuple[str, ...],
    precision: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the folder."""
    from contlearn.operations.export import export_version

    if len(places) > 2:
        raise click.UsageError("Give at most a version and a folder.")
    version = version_name(places[0]) if len(places) == 2 else None
    folder = Path(places[-1])
    with settings.open() as context, settings.progress() as progress:
        value = export_version(
            context, version, folder, precision=precision, dry_run=dry_run, progress=progress
        )

    def human() -> None:
        word = "Would write" if dry_run else "Wrote"
        click.echo(f"{word} version {value['version']} to {value['path']}:")
        for name in value["files"]:
            click.echo(f"  {name}")

    print_result(value, as_json=as_json, human=human)
