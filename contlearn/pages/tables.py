"""Tables of pages, and cells that show their value."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from contlearn.types import Metric
from contlearn.wording import amount

__all__ = ["bar_cell", "change", "heat_cell", "table"]

# A change below this is none.
_UNCHANGED: Final = 5e-4


def table(head: str, rows: Sequence[str], *, style: str = "") -> str:
    """Make a table that scrolls inside itself where it is too wide."""
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    name = f' class="{style}"' if style else ""
    return f'<div class="wide"><table{name}>{top}<tbody>{"".join(rows)}</tbody></table></div>'


def heat_cell(value: float | None, text: str, note: str = "") -> str:
    """Make a table cell that is the darker the larger its value. Units: value 0 to 1."""
    if value is None:
        return "<td></td>"
    strength = 0.6 * min(max(value, 0.0), 1.0) ** 2
    more = f' <span class="bad small">{escape(note)}</span>' if note else ""
    return f'<td style="background:rgba(var(--heat),{strength:.2f})">{escape(text)}{more}</td>'


def bar_cell(share: float, text: str) -> str:
    """Make a table cell with a bar behind its number. Units: share 0 to 1."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<td class="bar"><i style="width:{width:.1f}%"></i><b>{escape(text)}</b></td>'


def change(value: float, before: float, metric: Metric | None) -> tuple[str, str]:
    """Give the style of a change of a measure, and the change as it is written.

    Example:
        >>> change(0.9, 0.8, None)
        ('good', '+10.0 %')
        >>> change(0.25, 0.5, Metric(name="mae", higher_is_better=False, unit="points"))
        ('good', '-0.25 points')
    """
    gain = value - before
    better = gain if metric is None else metric.oriented(gain)
    style = "soft" if abs(gain) < _UNCHANGED else "good" if better > 0 else "bad"
    return style, amount(gain, metric, sign=True)
