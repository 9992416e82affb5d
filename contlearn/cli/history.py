"""`contlearn history`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result


@click.command("history", help="Show all cycles, promotions and rollbacks, newest first.")
@click.option("--at", "at_moment", type=click.DateTime(), help="What was live then (UTC)?")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def command(settings: Settings, at_moment: datetime | None, limit: int, as_json: bool) -> None:
    """Print cycles and the journal."""
    from contlearn.pipeline.history import read_history

    at = at_moment.replace(tzinfo=UTC) if at_moment is not None else None
    with settings.open() as context:
        value = read_history(context, at=at, limit=limit)
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import heading, moment, number, table

    if "live" in value:
        live = value["live"]
        click.echo(
            f"At {value['at']} version {live} was live."
            if live is not None
            else f"At {value['at']} nothing was live."
        )
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
                number((cycle["metrics"] or {}).get("average_accuracy")),
                f"{sum((cycle['numbers'] or {}).get('seconds', {}).values()):.0f}",
            )
            for cycle in value["cycles"]
        ],
        right=(4, 5, 6),
    )
    heading("Journal")
    table(
        ["when", "event", "version", "before", "who", "why"],
        [
            (
                moment(event["at"]),
                event["event"],
                event.get("version") or "–",
                event.get("previous") or "–",
                event.get("actor") or "",
                event.get("reason") or "",
            )
            for event in value["events"]
            if event["event"] != "intent"
        ],
        right=(2, 3),
    )
