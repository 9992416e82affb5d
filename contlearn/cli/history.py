"""`contlearn history`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, past_moment, print_result
from contlearn.papers.journal import JournalRecord


@click.command("history", help="Show all cycles, promotions and rollbacks, newest first.")
@click.option(
    "--at",
    metavar="TIME",
    type=past_moment,
    help='What was live then? ISO 8601, UTC without an offset; or how long ago: "2h", "3d".',
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def command(settings: Settings, at: datetime | None, limit: int, as_json: bool) -> None:
    """Print cycles and the journal."""
    from contlearn.operations.history import read_history

    with settings.open() as context:
        value = read_history(context, at=at, limit=limit)
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import heading, table
    from contlearn.wording import moment, percent

    if "live" in value:
        _show_live(value)
        return
    heading("Cycles")
    table(
        ["cycle", "started", "trigger", "outcome", "version", "average", "seconds"],
        [
            (
                cycle["cycle"],
                moment(cycle["started_at"]),
                cycle["trigger"],
                cycle["outcome"],
                cycle["version"] or "–",
                percent((cycle["metrics"] or {}).get("average_accuracy")),
                f"{sum((cycle['numbers'] or {}).get('seconds', {}).values()):.0f}",
            )
            for cycle in value["cycles"]
        ],
        right=(4, 5, 6),
    )
    for cycle in value["cycles"]:
        if cycle["why"]:
            click.echo(f"{cycle['cycle']} {cycle['outcome']}: {' '.join(cycle['why'].split())}")
    heading("Journal")
    table(
        ["when", "event", "version", "before", "who", "why"],
        [
            (
                moment(record.at),
                record.event,
                record.version or "–",
                record.previous or "–",
                record.actor or "",
                _why(record),
            )
            for record in map(JournalRecord.from_json, value["events"])
            if record.event != "intent"
        ],
        right=(2, 3),
    )


def _why(record: JournalRecord) -> str:
    words = [f"alias {record.alias}"] if record.alias else []
    if record.force:
        words.append("forced")
    words.append(str(record.why or record.reason or ""))
    return ": ".join(word for word in words if word)


def _show_live(value: dict[str, Any]) -> None:
    if value["live"] is None:
        click.echo(f"At {value['at']} nothing was live.")
        return
    until = f"until {value['until']}" if value["until"] else "and still is"
    click.echo(f"At {value['at']} version {value['live']} was live,")
    click.echo(f"  since {value['since']} {until};")
    how = "promoted" if value["event"] == "promote" else "rolled back to"
    click.echo(f"  {how} by {value['actor']}: {value['reason']}")
    if value["aliases"]:
        names = ", ".join(f"{name} = {number}" for name, number in value["aliases"].items())
        click.echo(f"  aliases: {names}")
