"""Tables, numbers and progress bars for people; plain text without colour when piped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from contlearn.interfaces import Progress as Callback
from contlearn.types import Metric
from contlearn.wording import percent

__all__ = [
    "OUTCOME_COLOURS",
    "Marked",
    "console",
    "heading",
    "matrix_table",
    "number",
    "one_line",
    "print_reasons",
    "progress_bars",
    "table",
]

# Outcomes of an update; any other is cyan.
OUTCOME_COLOURS: Final = {
    "promoted": "green",
    "refused": "red",
    "kept": "cyan",  # nothing is wrong, and nothing has changed
    "failed": "red",
    "awaiting-approval": "yellow",
}
# A column that is cut keeps so many characters, however narrow the terminal is.
_LEAST_CUT: Final = 16


class Marked(str):
    """A cell in rich's markup."""

    __slots__ = ()


class _Console(Console):
    """Leaves a closed pipe to whoever prints, instead of ending the program with a failure."""

    def on_broken_pipe(self) -> None:
        """Pass the error on that is being handled."""
        raise  # rich calls this while it handles the BrokenPipeError


def console() -> Console:
    """Make a console on standard output; at least 100 wide when piped, so that rows stay whole."""
    out = _Console(highlight=False)
    return out if out.is_terminal else _Console(highlight=False, width=max(out.width, 110))


def number(value: float | None, digits: int = 3) -> str:
    """Write a number; a dash when it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def heading(text: str) -> None:
    """Write a heading."""
    console().print(f"[bold]{escape(text)}[/bold]")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    right: Sequence[int] = (),
    cut: int | None = None,
) -> None:
    """Write a table.

    Args:
        columns: The headers.
        rows: Cells, shown as they stand; only a `Marked` one is rich's markup.
        title: Above the table.
        right: The columns of numbers.
        cut: The column that is cut to what the terminal has left, so that a row is one line.
    """
    out = console()
    if cut is not None:
        rows = _cut(columns, rows, cut, out.width)
    grid = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
        show_header=any(columns),
    )
    for position, column in enumerate(columns):
        grid.add_column(column, justify="right" if position in right else "left")
    for row in rows:
        grid.add_row(
            *(cell if isinstance(cell, Marked) else escape(_visible(str(cell))) for cell in row)
        )
    out.print(grid)


def _cut(
    columns: Sequence[str], rows: Sequence[Sequence[object]], cut: int, width: int
) -> list[list[object]]:
    """Make one column fit into what the others leave of a line."""
    others = [i for i in range(len(columns)) if i != cut]
    taken = sum(max(cell_len(str(row[i])) for row in (columns, *rows)) + 2 for i in others)
    limit = max(_LEAST_CUT, width - taken)
    return [
        [one_line(str(cell), limit) if i == cut else cell for i, cell in enumerate(row)]
        for row in rows
    ]


def one_line(text: str, limit: int) -> str:
    r"""Show a text on one line of at most so many characters.

    Example:
        >>> one_line("refused twice:\n  macro_f1 fell", 20)
        'refused twice: macr…'
    """
    plain = _visible(" ".join(text.split()))
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _visible(text: str) -> str:
    """Escape what a terminal would obey instead of showing."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def print_reasons(reasons: Sequence[Mapping[str, Any]]) -> None:
    """Write the gate's outcomes, one line each."""
    signs = {
        True: Marked("[green]passed[/green]"),
        False: Marked("[red]refused[/red]"),
        None: Marked("[dim]n/a[/dim]"),
    }
    not_worth = Marked("[yellow]not worth it[/yellow]")
    table(
        ["rule", "", "measured", "required", "why"],
        [
            (
                reason["rule"],
                not_worth
                if reason.get("keeps") and not reason["passed"]
                else signs[reason["passed"]],
                number(reason["measured"]),
                number(reason["required"]),
                reason["message"],
            )
            for reason in reasons
        ],
        right=(2, 3),
    )


def matrix_table(
    matrix: Sequence[Sequence[float | None]], names: Sequence[str], metric: Metric | None = None
) -> None:
    """Write the accuracy matrix: row t after experience t, column k on held-out set k."""
    table(
        ["after ↓ on →", *names],
        [
            (
                names[t] if t < len(names) else str(t),
                *(percent(v).rstrip(" %") if metric is None else number(v) for v in row),
                *[""] * (len(names) - len(row)),
            )
            for t, row in enumerate(matrix)
        ],
        right=tuple(range(1, len(names) + 1)),
    )


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """Show one bar for each stage, as it comes."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=36),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=_Console(stderr=True),
        transient=False,
    )
    known: dict[str, Any] = {}
    with bars:

        def show(stage: str, done: int, total: int, message: str) -> None:
            if stage not in known:
                for earlier in known.values():
                    item = bars.tasks[earlier]
                    bars.update(earlier, total=item.total or 1, completed=item.total or 1, note="")
                known[stage] = bars.add_task(stage, total=None, note="")
            bars.update(
                known[stage], completed=done, total=total or None, note=escape(message[:60])
            )

        yield show
        for task_id in known.values():
            item = bars.tasks[task_id]
            bars.update(task_id, total=item.total or 1, completed=item.total or 1, note="")
