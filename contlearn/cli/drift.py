"""`contlearn drift`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from contlearn.cli.settings import (
    Settings,
    json_option,
    pass_settings,
    past_moment,
    print_result,
    version_name,
)


@click.command("drift", help="Say whether the world has changed since the version began to answer.")
@click.option(
    "--window",
    type=click.IntRange(min=100),
    help="The newest so many predictions; monitoring.drift_window if left out.",
)
@click.option("--since", type=past_moment, help="The window begins here: ISO (UTC), or 2h, 3d ago.")
@click.option("--until", type=past_moment, help="The window ends before this.")
@click.option(
    "--version", type=version_name, help="Whose answers; those of the newest if left out."
)
@click.option(
    "--examples",
    type=click.IntRange(0, 50),
    default=5,
    show_default=True,
    help="Texts to show, where monitoring.log_text allows it.",
)
@click.option(
    "--record", is_flag=True, help="Also write the signals that the daemon and the metrics show."
)
@json_option
@pass_settings
def command(
    settings: Settings,
    window: int | None,
    since: datetime | None,
    until: datetime | None,
    version: int | str | None,
    examples: int,
    record: bool,
    as_json: bool,
) -> None:
    """Judge a window of the prediction log."""
    from contlearn.errors import UsageError
    from contlearn.operations.chosen import chosen_version
    from contlearn.operations.drift import look, look_and_record

    if since is not None and window is not None:
        raise UsageError(
            "--window counts the newest predictions, --since names a moment: only one can be.",
            where="drift",
            hint="Leave one of them out.",
        )
    if record and (since or until or version):
        raise UsageError(
            "Only the present can be recorded.",
            where="drift --record",
            hint="Leave --since, --until and --version out.",
        )
    with settings.open() as context:
        if record:
            value = look_and_record(context, window=window, examples=examples)
        else:
            value = look(
                context,
                window=window,
                since=since,
                until=until,
                version=None if version is None else chosen_version(context, version).version,
                examples=examples,
            )
    print_result(value, as_json=as_json, human=lambda: _show(value))


def _show(value: Mapping[str, Any]) -> None:
    from contlearn.cli.output import heading, table
    from contlearn.wording import moment, percent

    window, reference = value["window"], value["reference"]
    verdict = f"{value['severity']} drift" if value["detected"] else "no drift"
    heading(f"{value['model']}, version {value['version']}: {verdict}")
    click.echo(
        f"  {window['records']} predictions from {moment(window['from'])} to "
        f"{moment(window['to'])} UTC against {reference['records']} of its first ones; "
        f"chance does this in {percent(value['p_value'])} of windows (alarm at "
        f"{percent(value['level'])})."
    )
    for line in value["explanation"]:
        click.echo(f"  {line}")
    _show_accuracy(value["accuracy"])
    table(
        ["detector", "of", "measured", "chance", "corrected", ""],
        [
            (
                item["detector"],
                item["target"],
                f"{item['statistic']:.4g}",
                f"{item['p_value']:.2g}",
                f"{item['adjusted_p_value']:.2g}",
                "alarm" if item["detected"] else "",
            )
            for item in value["detectors"]
        ],
        right=(2, 3, 4),
    )
    for name, why in value["left_out"].items():
        click.echo(f"  {name} was left out: {why}.")
    if value["detected"]:
        _show_moved(value["moved"])
        for example in value["examples"]:
            click.echo(f"  new: {example['label']}: {example['text']}")


def _show_accuracy(accuracy: Mapping[str, Any]) -> None:
    from contlearn.wording import percent

    for name in ("estimated", "measured"):
        item = accuracy[name]
        if item is not None:
            note = " It dropped." if item["dropped"] else ""
            click.echo(
                f"  Accuracy {name}: {percent(item['value'])} (95 %: {percent(item['low'])} to "
                f"{percent(item['high'])}, {item['records']} rows); on held-out rows "
                f"{percent(accuracy['reference'])}.{note}"
            )
    if accuracy["unknown_share"] is not None:
        click.echo(f"  Texts flagged as unknown: {percent(accuracy['unknown_share'])}.")


def _show_moved(moved: Mapping[str, Any]) -> None:
    from contlearn.cli.output import table
    from contlearn.wording import percent

    clusters = [c for c in moved["clusters"] if abs(c["now"] - c["before"]) >= 0.02][:4]
    if clusters:
        table(
            ["cluster of", "before", "now"],
            [
                (
                    f"{c['cluster']}: " + ", ".join(c["words"] or c["labels"]),
                    percent(c["before"]),
                    percent(c["now"]),
                )
                for c in clusters
            ],
            right=(1, 2),
        )
    words = moved["words"]
    for name in ("more", "less"):
        if words[name]:
            listed = ", ".join(
                f"{w['word']} {w['before']:.0%} → {w['now']:.0%}" for w in words[name]
            )
            click.echo(f"  Words in {name} texts: {listed}")
