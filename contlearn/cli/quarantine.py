"""`contlearn data quarantine`: refused rows, out as a sheet and back in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    dry_run_option,
    json_option,
    pass_settings,
    print_result,
)


@click.command(
    "quarantine",
    help="List refused rows; write them as a sheet, take it back, retry, or let labels in.",
)
@click.option("--reason", help="Only rows refused for this reason.")
@click.option("--file", "source", help="Only rows of this file.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rows as a CSV sheet.",
)
@click.option(
    "--take-back",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take in the corrected rows of such a sheet.",
)
@click.option("--retry", is_flag=True, help="Check the rows again under this configuration.")
@click.option(
    "--accept",
    multiple=True,
    metavar="LABEL[=KNOWN]",
    help="Take in the rows of a new label; with =KNOWN as rows of that label.",
)
@click.option("--discard", is_flag=True, help="Throw the rows away for good.")
@click.option(
    "--on-conflict",
    type=click.Choice(["quarantine", "newest", "all"]),
    help="With --take-back, --retry or --accept: instead of data.on_conflict.",
)
@dry_run_option
@json_option
@pass_settings
def quarantine_command(
    settings: Settings, /, *, reason: str | None, source: str | None, as_json: bool, **options: Any
) -> None:
    """List, export, take back, retry, accept or discard."""
    chosen = [
        name for name in ("export", "take_back", "retry", "accept", "discard") if options[name]
    ]
    if len(chosen) > 1:
        raise click.UsageError(
            f"--{chosen[0]} and --{chosen[1]} do not go together.".replace("_", "-")
        )
    where = {"reason": reason, "source": source}
    if options["export"]:
        _export(settings, options["export"], where, dry_run=options["dry_run"], as_json=as_json)
    elif options["take_back"] or options["retry"] or options["accept"]:
        _take_in(settings, where, options, as_json=as_json)
    elif options["discard"]:
        _discard(settings, where, dry_run=options["dry_run"], as_json=as_json)
    else:
        _list(settings, where, options["limit"], as_json=as_json)


def _list(settings: Settings, where: dict[str, Any], limit: int, *, as_json: bool) -> None:
    from contlearn.operations.records import list_quarantine

    with settings.open() as context:
        value = list_quarantine(context, **where, limit=limit)

    def human() -> None:
        from contlearn.cli.output import table

        if value["counts"]:
            table(["reason", "rows"], list(value["counts"].items()), right=(1,))
            table(
                ["file", "line", "reason", "message", "row"],
                [
                    (r["source"], r["line_number"], r["reason"], r["message"], r["row"][:60])
                    for r in value["rows"]
                ],
                right=(1,),
            )
        else:
            click.echo("The quarantine is empty.")
        if value["files"]:
            click.echo("Files refused whole:")
            table(
                ["file", "reason", "message"],
                [(f["name"], f["reason"], f["message"]) for f in value["files"]],
            )

    print_result(value, as_json=as_json, human=human)


def _export(
    settings: Settings, sheet: Path, where: dict[str, Any], *, dry_run: bool, as_json: bool
) -> None:
    from contlearn.data.quarantine.looking import export_quarantine, read_quarantine

    with settings.open() as context:
        if dry_run:
            rows = sum(1 for _ in read_quarantine(context.workspace, **where))
        else:
            own = context.workspace.own_folders(context.config)
            rows = export_quarantine(context.workspace, sheet, **where, own=own)
    print_result(
        {"rows": rows, "path": str(sheet)},
        as_json=as_json,
        human=lambda: click.echo(
            f"{rows} rows would be written to {sheet}."
            if dry_run
            else f"{rows} rows are in {sheet}. Correct them there, then run "
            f"`contlearn data quarantine --take-back {sheet}`."
        ),
    )


def _take_in(
    settings: Settings, where: dict[str, Any], options: dict[str, Any], *, as_json: bool
) -> None:
    from contlearn.operations.refused import accept_refused, retry_refused, take_back_sheet

    common: dict[str, Any] = {key: options[key] for key in ("on_conflict", "dry_run")}
    with settings.open() as context:
        if options["take_back"]:
            report = take_back_sheet(context, options["take_back"], **common)
        elif options["accept"]:
            report = accept_refused(context, options["accept"], **where, **common)
        else:
            report = retry_refused(context, **where, **common)
    value = report.to_json()
    unchanged = sum(
        w["count"] for f in value["files"] for w in f["warnings"] if w["code"] == "unchanged"
    )

    def human() -> None:
        verb = "Would accept" if options["dry_run"] else "Accepted"
        click.echo(
            f"{verb} {value['accepted']} rows; {value['duplicates']} were known, "
            f"{value['rejected'] + value['conflicts']} are still refused."
        )
        if unchanged:
            click.echo("Rows that were not changed in the sheet stay in the quarantine.")
        for file in value["files"]:
            for problem in file["problems"]:
                click.echo(f"  {problem['code']} ({problem['count']}): ", nl=False)
                click.echo(problem["examples"][0]["message"])

    print_result(value, as_json=as_json, human=human)


def _discard(settings: Settings, where: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    from contlearn.operations.refused import discard_refused

    with settings.open() as context:
        number = discard_refused(context, **where, dry_run=dry_run)
    print_result(
        {"discarded": number, "dry_run": dry_run},
        as_json=as_json,
        human=lambda: click.echo(
            f"{number} rows would be thrown away." if dry_run else f"{number} rows thrown away."
        ),
    )
