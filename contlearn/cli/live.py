"""The live view of `contlearn status --watch`: what runs, what comes next and why, what was.

It fits its terminal: where lines are few, long sentences are cut before whole facts are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contlearn.cli.output import OUTCOME_COLOURS, console
from contlearn.wording import Measures, moment, percent, span

__all__ = ["daemon_words", "disk_words", "live_view", "next_steps", "show_live"]

_LABEL_WIDTH: Final = 9
_NARROW: Final = 60
_FEWEST_DECISIONS: Final = 3


def show_live(read: Callable[[], Mapping[str, Any]], wait: Callable[[], None]) -> None:
    """Show the view again and again, until interrupted.

    Args:
        read: Gives what `status --json` prints.
        wait: Waits until the next look.
    """
    from rich.live import Live

    out = console()
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            height = out.height if out.is_terminal else None
            view = live_view(read(), datetime.now(UTC), width=out.width, height=height)
            live.update(view, refresh=True)
            wait()


def live_view(
    value: Mapping[str, Any], now: datetime, *, width: int = 110, height: int | None = None
) -> RenderableType:
    """Lay one look out.

    Args:
        value: What `status --json` prints.
        now: The present moment.
        width: Columns there are.
        height: Lines there are; None for as many as it takes.
    """
    is_narrow = width < _NARROW
    facts = _facts(value, now, narrow=is_narrow)
    recent = list(value.get("recent") or ())
    # Besides the facts: the title and what is around the decisions.
    room = None if height is None else height - (3 if is_narrow else 4)
    spare = None if room is None else room - len(facts) - min(len(recent), _FEWEST_DECISIONS)
    wrapped = _wrap_all([text for _, text in facts], width - _LABEL_WIDTH, spare)
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True, width=_LABEL_WIDTH - 2)
    rows.add_column(no_wrap=True)
    for (label, _), lines in zip(facts, wrapped, strict=True):
        rows.add_row(label, Text("\n").join(lines))
    if room is not None:
        recent = recent[: max(0, room - sum(map(len, wrapped)))]
    title = Text(str(value["model"]), style="bold", no_wrap=True, overflow="ellipsis")
    if not is_narrow:
        title.append(f"  ·  {value['task']}")
    moment = f"{now:%H:%M:%S} UTC" if is_narrow else f"{now:%Y-%m-%d %H:%M:%S} UTC"
    title.append(f"   {moment}", style="dim not bold")
    shown: list[RenderableType] = [title, "", rows]
    if recent:
        shown += ["", (_short_decisions if is_narrow else _decisions)(recent, now)]
    return Group(*shown)


def _facts(value: Mapping[str, Any], now: datetime, *, narrow: bool) -> list[tuple[str, Text]]:
    daemon: Mapping[str, Any] = value.get("daemon") or {}
    lines: list[tuple[str, str | Text]] = [
        ("served", _champion(value, now)),
        ("records", _records(value)),
        ("now", _running(value, now, bar=12 if narrow else 24)),
        *next_steps(daemon, now),
        ("drift", _drift(value)),
        ("disk", disk_words(daemon)),
        ("daemon", daemon_words(daemon, now)),
    ]
    if value.get("notifications_waiting"):
        lines.append(("outbox", f"{value['notifications_waiting']} notifications wait"))
    # Names and reasons are other people's words: no brackets of theirs are read as colours.
    return [(label, Text(text) if isinstance(text, str) else text) for label, text in lines]


def _wrap_all(texts: Sequence[Text], width: int, spare: int | None) -> list[list[Text]]:
    """Cut texts into lines: one each, and `spare` more where they are wanted, the first first."""
    out, width, found = console(), max(width, 10), []
    for text in texts:
        lines = list(text.wrap(out, width, overflow="fold"))
        for line in lines:
            line.rstrip()
        most = len(lines) if spare is None else min(len(lines), 1 + max(spare, 0))
        if most < len(lines):
            last = Text(" ").join(lines[most - 1 :])
            last.truncate(width, overflow="ellipsis")
            lines[most - 1 :] = [last]
        if spare is not None:
            spare -= most - 1
        found.append(lines)
    return found


def _champion(value: Mapping[str, Any], now: datetime) -> str:
    champion = value.get("champion")
    if champion is None:
        return "nothing yet"
    text = f"version {champion['version']} for {_ago(champion['promoted_at'], now)}"
    accuracy = (champion.get("metrics") or {}).get("average_accuracy")
    if accuracy is not None:
        measures = Measures.of(value)
        name = measures.name("average_accuracy")
        text += f", {name} {measures.shown('average_accuracy', accuracy)}"
    if value.get("awaiting_approval"):
        text += f"; version {value['awaiting_approval']} awaits approval"
    return text


def _records(value: Mapping[str, Any]) -> str:
    oldest = value.get("oldest_pending")
    since = f" (the oldest since {moment(oldest)})" if oldest else ""
    suspected = value.get("suspected_records")
    parts = f", {suspected} of them tried part by part" if suspected else ""
    kept = value.get("kept_records")
    parts += f", {kept} of them kept for the next update" if kept else ""
    return (
        f"{value['pending_records']} pending{since}{parts}, {value['held_records']} held, "
        f"{value['learnt_records']} learnt, {value['held_out_records']} held out"
    )


def _running(value: Mapping[str, Any], now: datetime, *, bar: int) -> str | Text:
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
    full = round(bar * min(done, total) / total)
    shown = Text(f"{text}  {done}/{total} ")
    return shown.append("━" * full, style="green").append("━" * (bar - full), style="dim")


def next_steps(daemon: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    """Say what is due, what it waits for, and when the schedule comes."""
    if not daemon.get("running"):
        return [("next", "nothing starts by itself: no daemon runs")]
    waits = daemon.get("waits") or {}
    lines = [f"{name}: {waits.get(name, 'now')}" for name in daemon.get("due") or ()]
    scheduled = daemon.get("next_scheduled")
    if scheduled:
        lines.append(f"schedule: {moment(scheduled)} UTC, {_in(scheduled, now)}")
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


def disk_words(daemon: Mapping[str, Any]) -> str:
    """Say what is free, what an update needs and what is missing, as the daemon saw it last."""
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


def daemon_words(daemon: Mapping[str, Any], now: datetime) -> str:
    """Say whether a daemon runs, when it was last alive, and what is wrong with it."""
    if not daemon.get("running"):
        seen = daemon.get("heartbeat_at")
        return "not running" + (f"; last seen {_ago(seen, now)} ago" if seen else "")
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


def _short_decisions(recent: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """As `_decisions`, without columns."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in recent:
        outcome = str(row["outcome"])
        text = Text(outcome, style=OUTCOME_COLOURS.get(outcome, "cyan"))
        why = " ".join(str(row["why"] or "").split())
        text.append(f" ({row['trigger']}){': ' if why else ''}{why}", style="default")
        grid.add_row(_ago(row["ended_at"], now) if row["ended_at"] else "now", text)
    return grid


def _decisions(recent: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """One line each; `contlearn history` has the reasons in full."""
    grid = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in ("ended", "outcome", "version", "cause"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("why", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in recent:
        outcome = str(row["outcome"])
        grid.add_row(
            Text(f"{_ago(row['ended_at'], now)} ago" if row["ended_at"] else "now"),
            Text(outcome, style=OUTCOME_COLOURS.get(outcome, "cyan")),
            Text(str(row["version"] or "–")),
            Text(str(row["trigger"])),
            Text(" ".join(str(row["why"] or "").split())),
        )
    return grid


def _ago(then: object, now: datetime) -> str:
    if not then:
        return "–"
    return span((now - datetime.fromisoformat(str(then))).total_seconds())


def _in(then: object, now: datetime) -> str:
    return f"in {span((datetime.fromisoformat(str(then)) - now).total_seconds())}"
