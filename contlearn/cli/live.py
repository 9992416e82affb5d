"""The live view of `contlearn status --watch`: what runs, what comes next and why, what was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contlearn.cli.output import console, percent

__all__ = ["live_view", "show_live"]

_COLOURS = {"promoted": "green", "refused": "red", "failed": "red", "awaiting-approval": "yellow"}


def show_live(read: Callable[[], Mapping[str, Any]], wait: Callable[[], None]) -> None:
    """Show the view again and again, until interrupted.

    Args:
        read: Gives what `status --json` prints.
        wait: Waits until the next look.
    """
    out = console()
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(live_view(read(), datetime.now(UTC)), refresh=True)
            wait()


def live_view(value: Mapping[str, Any], now: datetime) -> RenderableType:
    """Lay one look out."""
    daemon: Mapping[str, Any] = value.get("daemon") or {}
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    lines: list[tuple[str, RenderableType]] = [
        ("served", _champion(value, now)),
        ("records", _records(value)),
        ("now", _running(value, now)),
        *_next(daemon, now),
        ("drift", _drift(value)),
        ("disk", _disk(daemon)),
        ("daemon", _daemon(daemon, now)),
    ]
    if value.get("notifications_waiting"):
        lines.append(("outbox", f"{value['notifications_waiting']} notifications wait"))
    for label, shown in lines:
        # Names and reasons are other people's words: no brackets of theirs are read as colours.
        rows.add_row(label, Text(shown) if isinstance(shown, str) else shown)
    title = Text(f"{value['model']}  ·  {value['task']}", style="bold")
    title.append(f"   {now:%Y-%m-%d %H:%M:%S} UTC", style="dim")
    return Group(title, "", rows, "", _decisions(value, now))


def _champion(value: Mapping[str, Any], now: datetime) -> str:
    champion = value.get("champion")
    if champion is None:
        return "nothing yet"
    text = f"version {champion['version']} for {_ago(champion['promoted_at'], now)}"
    accuracy = (champion.get("metrics") or {}).get("average_accuracy")
    if accuracy is not None:
        text += f", average accuracy {percent(accuracy)}"
    if value.get("awaiting_approval"):
        text += f"; version {value['awaiting_approval']} awaits approval"
    return text


def _records(value: Mapping[str, Any]) -> str:
    oldest = value.get("oldest_pending")
    since = f" (the oldest since {str(oldest)[:16].replace('T', ' ')})" if oldest else ""
    return (
        f"{value['pending_records']} pending{since}, {value['held_records']} held, "
        f"{value['learnt_records']} learnt, {value['held_out_records']} held out"
    )


def _running(value: Mapping[str, Any], now: datetime) -> RenderableType:
    running = value.get("running_cycle")
    if running is None:
        return "no update runs"
    progress = running.get("progress") or {}
    stage = progress.get("stage") or running["state"]
    text = (
        f"{running['cycle']} ({running.get('trigger')}), {stage}"
        f" for {_ago(running.get('started_at'), now)}"
    )
    if running.get("interrupted"):
        return f"{text}: interrupted, the next update takes it up"
    done, total = int(progress.get("done", 0)), int(progress.get("total", 0))
    if not total:
        return text
    bar = Table.grid(padding=(0, 1))
    bar.add_row(Text(text), ProgressBar(total=total, completed=done, width=24), f"{done}/{total}")
    return bar


def _next(daemon: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    waits = daemon.get("waits") or {}
    lines = [f"{name}: {waits.get(name, 'now')}" for name in daemon.get("due") or ()]
    scheduled = daemon.get("next_scheduled")
    if scheduled:
        minute = str(scheduled)[:16].replace("T", " ")
        lines.append(f"schedule: {minute} UTC, {_in(scheduled, now)}")
    probation = daemon.get("probation") or {}
    if probation.get("version") and not probation.get("verdict"):
        lines.append(
            f"version {probation['version']} is on probation since {probation['elapsed']:.0f} s"
        )
    queue = daemon.get("queue") or ()
    if queue:
        lines.append(f"queue: {', '.join(queue)}")
    lines = lines or ["nothing is due"]
    return [("next" if n == 0 else "", line) for n, line in enumerate(lines)]


def _drift(value: Mapping[str, Any]) -> str:
    looks = value.get("looks")
    if looks is None:
        return "no look yet"
    text = (
        "none"
        if not looks["drift"]
        else f"{looks['severity']}: {' '.join(looks['explanation'][:2])}"
    )
    for name in ("estimated", "measured"):
        accuracy = looks.get(f"{name}_accuracy")
        if accuracy is not None:
            text += f"; {name} accuracy {percent(accuracy)}"
    return text


def _disk(daemon: Mapping[str, Any]) -> str:
    disk = daemon.get("disk")
    if not disk:
        return "not looked at yet"
    text = f"{disk['free_bytes'] / 1e9:.1f} GB free"
    text += f", an update needs {disk['needed_bytes'] / 1e6:.0f} MB"
    if disk["allowed_bytes"]:
        text += f", {disk['used_bytes'] / 1e6:.0f} of {disk['allowed_bytes'] / 1e6:.0f} MB used"
    if disk["missing_bytes"]:
        text += f"; {disk['missing_bytes'] / 1e6:.0f} MB are MISSING"
    return text


def _daemon(daemon: Mapping[str, Any], now: datetime) -> str:
    if not daemon.get("running"):
        return "not running"
    text = f"{daemon.get('doing', 'running')}, seen {_ago(daemon.get('heartbeat_at'), now)} ago"
    if daemon.get("failures"):
        text += (
            f"; {daemon['failures']} failures in a row, next try in "
            f"{daemon.get('retry_in_seconds', 0):.0f} s: {daemon.get('last_error') or ''}"
        )
    for name in ("inbox_error", "config_error"):
        if daemon.get(name):
            text += f"; {daemon[name]}"
    return text


def _decisions(value: Mapping[str, Any], now: datetime) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("last decisions", "cause", "outcome", "version", "why"):
        grid.add_column(column, overflow="fold")
    for row in value.get("recent") or ():
        colour = _COLOURS.get(str(row["outcome"]), "cyan")
        grid.add_row(
            f"{_ago(row['ended_at'], now)} ago" if row["ended_at"] else "now",
            escape(str(row["trigger"])),
            f"[{colour}]{escape(str(row['outcome']))}[/{colour}]",
            str(row["version"] or "–"),
            escape(str(row["why"] or "")[:160]),
        )
    return grid


def _ago(moment: object, now: datetime) -> str:
    if not moment:
        return "–"
    return _span((now - datetime.fromisoformat(str(moment))).total_seconds())


def _in(moment: object, now: datetime) -> str:
    return f"in {_span((datetime.fromisoformat(str(moment)) - now).total_seconds())}"


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
