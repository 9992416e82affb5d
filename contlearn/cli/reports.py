"""What people read: an update, a status, an evaluation, a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from contlearn.cli.output import (
    OUTCOME_COLOURS,
    console,
    heading,
    matrix_table,
    number,
    print_reasons,
    table,
)
from contlearn.wording import Measures, best_words, moment

__all__ = ["metric_line", "show_evaluation", "show_status", "show_update"]


def metric_line(metrics: Mapping[str, Any], measures: Measures) -> str:
    """Write measures on one line; forgetting and transfer in points.

    Args:
        metrics: By their names in JSON.
        measures: What they are.
    """
    return ", ".join(
        f"{measures.name(name)} {measures.shown(name, value)}"
        for name, value in metrics.items()
        if isinstance(value, int | float) or value is None
    )


def search_line(search: Mapping[str, Any]) -> str:
    """Say in one line what a search found."""
    settings = ", ".join(f"{key} = {value}" for key, value in search["settings"].items())
    cut = f", {search['cut_short']} cut short" if search["cut_short"] else ""
    failed = f", {search['failed']} failed" if search["failed"] else ""
    stopped = f"; {search['stopped']}" if search["stopped"] else ""
    score = "" if search["score"] is None else f", {search['score']:.4f} on records set aside"
    return f"searched: {search['trials']} trials{cut}{failed}: {settings}{score}{stopped}"


def show_update(value: Mapping[str, Any]) -> None:
    """Write the outcome of a cycle with its reasons."""
    outcome = str(value["outcome"])
    for file in value["refused_files"]:
        hint = f" {file['hint']}" if file["hint"] else ""
        click.echo(f"Not taken in: {file['path']}: {file['message']}{hint}")
    if value["cycle"] is None:
        click.echo(str(value["message"]))
        _show_warnings(value)
        return
    colour = OUTCOME_COLOURS.get(outcome, "cyan")
    version = f" as version {value['version']}" if value["version"] else ""
    console().print(
        f"Cycle {value['cycle']}{' (taken up again)' if value['resumed'] else ''}: "
        f"[bold {colour}]{outcome}[/bold {colour}]{version}, {value['seconds']:.0f} s"
    )
    if value["metrics"]:
        click.echo("  " + metric_line(value["metrics"], Measures.of(value)))
    share = value.get("trained_share")
    if share is not None and share < 1.0:
        click.echo(f"  {100 * share:.2f} % of the parameters were trained")
    if value.get("search"):
        click.echo(f"  {search_line(value['search'])}")
    _show_warnings(value)
    if value["reasons"]:
        print_reasons(value["reasons"])
    doubted = value.get("doubted")
    if doubted and doubted["number"]:
        from contlearn.cycle.doubting import in_words

        click.echo(f"{in_words(doubted)} (`contlearn data suspects --cycle {value['cycle']}`).")
    if value["message"]:
        click.echo(str(value["message"]))
    if outcome == "awaiting-approval":
        click.echo(f"Approve it with `contlearn promote {value['version']}`.")
    if outcome == "kept":
        click.echo(
            f"Version {value['version']} was not refused: `contlearn promote {value['version']}` "
            "serves it all the same, without --force."
        )


def _show_warnings(value: Mapping[str, Any]) -> None:
    for warning in value.get("warnings", ()):
        click.echo(f"  note: {warning}")


def show_status(value: Mapping[str, Any], now: datetime) -> None:
    """Write what is served, what waits and for what, and what runs."""
    from contlearn.cli.live import daemon_words, disk_words, next_steps

    champion = value["champion"]
    heading(f"{value['model']}  ·  {value['task']}")
    rows: list[tuple[str, str]] = []
    if champion is None:
        rows.append(("champion", "none yet"))
    else:
        rows.append(
            (
                "champion",
                (
                    f"version {champion['version']} since {moment(champion['promoted_at'])} UTC "
                    f"({champion['precision']}, {champion['labels']} labels)"
                ),
            )
        )
        rows.append(("measures", metric_line(champion["metrics"], Measures.of(value))))
        if said := best_words(champion, Measures.of(value)):
            rows.append(("", said))
    suspected = value["suspected_records"]
    parts = f" ({suspected} tried part by part)" if suspected else ""
    rows.append(
        (
            "records",
            (
                f"{value['pending_records']} pending{parts}, {value['held_records']} held, "
                f"{value['learnt_records']} learnt, {value['held_out_records']} held out"
            ),
        )
    )
    if kept := value["kept_records"]:
        are = "record is" if kept == 1 else "records are"
        rows.append(("", f"{kept} {are} kept for the next update"))
    for when, doubted in value["doubted"].items():
        if doubted and doubted["number"]:
            from contlearn.cycle.doubting import in_words

            rows.append(("doubts", f"last {when}: {in_words(doubted)}"))
    rows.append(("history", f"{value['experiences']} experiences, {value['versions']} versions"))
    last = value["last_cycle"]
    if last is not None:
        rows.append(("last cycle", f"{last['cycle']}: {last['outcome']}"))
        if last["why"]:
            rows.append(("", str(last["why"])))
    running = value["running_cycle"]
    if running is not None:
        state = "interrupted in" if running["interrupted"] else "now in"
        since = f"since {moment(running['started_at'])} UTC"
        rows.append(("running", f"{running['cycle']} {state} state {running['state']}, {since}"))
    if value["awaiting_approval"]:
        rows.append(
            (
                "approval",
                (
                    f"version {value['awaiting_approval']} waits for "
                    f"`contlearn promote {value['awaiting_approval']}`"
                ),
            )
        )
    rows += [
        ("broken plugin", f"{item['name']} ({item['distribution']}): {item['error']}")
        for item in value["broken_plugins"]
    ]
    daemon = value["daemon"] or {}
    rows += next_steps(daemon, now)
    if daemon.get("disk"):
        rows.append(("disk", disk_words(daemon)))
    rows.append(("daemon", daemon_words(daemon, now)))
    table(["", ""], rows)


def show_evaluation(value: Mapping[str, Any], *, labels: int = 30) -> None:
    """Write measures, the accuracy matrix, and the weakest labels first."""
    heading(f"Version {value['version']}")
    click.echo("  " + metric_line(value["metrics"], Measures.of(value)))
    if unknown := value.get("unknown_label_rows"):
        names = value["unknown_labels"]
        click.echo(
            f"  {unknown:,} rows have labels that this version does not know, and count as wrong: "
            + ", ".join(names[:5])
            + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        )
    matrix = value.get("accuracy_matrix") or []
    if len(matrix) > 1:
        measures = Measures.of(value)
        metric = measures.metric("average_accuracy")
        unit = "percent" if metric is None else metric.unit
        heading(f"Measure on held-out set k (column) after experience t (row), in {unit}")
        matrix_table(matrix, [str(k + 1) for k in range(len(matrix))], metric)
    per_label: Sequence[Mapping[str, Any]] = sorted(value["per_label"], key=lambda s: s["f1"])
    if per_label:
        heading("Labels" + (f", the {labels} weakest" if len(per_label) > labels else ""))
        table(
            ["label", "precision", "recall", "F1", "rows"],
            [
                (
                    score["label"],
                    number(score["precision"]),
                    number(score["recall"]),
                    number(score["f1"]),
                    score["support"],
                )
                for score in per_label[:labels]
            ],
            right=(1, 2, 3, 4),
        )
    confusion = value.get("confusion")
    if confusion:
        pairs = sorted(
            (
                (count, confusion["labels"][i], confusion["labels"][j])
                for i, row in enumerate(confusion["matrix"])
                for j, count in enumerate(row)
                if i != j and count
            ),
            reverse=True,
        )[:10]
        if pairs:
            heading("Most frequent confusions")
            table(
                ["rows", "expected", "predicted"],
                [(count, a, b) for count, a, b in pairs],
                right=(0,),
            )
    for item in value.get("text_slices") or ():
        if "problem" in item:
            click.echo(f"  Slice {item['slice']!r}: {item['problem']}.")
