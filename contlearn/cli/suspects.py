"""`contlearn data suspects`."""

from __future__ import annotations

from typing import Any

import click

from contlearn.cli.settings import Settings, json_option, pass_settings, print_result

_TEXT_CHARACTERS = 60


@click.command("suspects", help="List records whose labels are likely wrong; change nothing.")
@click.option("--cycle", help="What this cycle found in what it learnt and measured; or `last`.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--look-at", default=5000, show_default=True, type=click.IntRange(min=1))
@json_option
@pass_settings
def suspects_command(
    settings: Settings, cycle: str | None, limit: int, look_at: int, as_json: bool
) -> None:
    """Compare the champion's predictions with the labels of records it has not learnt."""
    from contlearn.operations.suspects import find_now, found_by_cycle, with_texts

    with settings.open() as context:
        value = (
            find_now(context, look_at=look_at) if cycle is None else found_by_cycle(context, cycle)
        )
        value["suspects"] = with_texts(context, value["suspects"][:limit])
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: dict[str, Any]) -> None:
    from contlearn.cli.output import one_line, table

    if not value["suspects"]:
        click.echo(f"No label is in doubt among {value['looked_at']} records.")
        return
    click.echo(f"{value['number']} labels of {value['looked_at']} records are in doubt.")
    for pair in value["pairs"]:
        if pair["number"] > 1:
            click.echo(
                f"  {pair['number']} of {pair['of']} labelled {pair['given']!r} look like "
                f"{pair['suggested']!r}"
            )
    table(
        ["record", "given", "likely", "given at", "likely at", "source", "text"],
        [
            (
                issue["record_id"],
                issue["given"],
                issue["suggested"],
                f"{issue['given_probability']:.3f}",
                f"{issue['suggested_probability']:.3f}",
                issue["source"],
                one_line(_evidence(issue), _TEXT_CHARACTERS),
            )
            for issue in value["suspects"]
        ],
        right=(3, 4),
    )


def _evidence(issue: dict[str, Any]) -> str:
    """Give the doubtful words of a sentence, or the text."""
    if "words" not in issue:
        return str(issue["text"])
    return "; ".join(f"{w['text']}: {w['given']} → {w['suggested']}" for w in issue["words"])
