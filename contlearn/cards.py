"""Cards of records in pages: the one form in which a page shows a text, and how it is taken out.

Who writes pages and who forgets records are different packages; this is what they agree on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Final

__all__ = ["FORGOTTEN", "clear_cards", "record_card"]

FORGOTTEN: Final = "This record was forgotten."
_OPEN: Final = '<div class="card flip" data-record="{}">'
# Nothing inside a card is a div, and what comes from data has no "<".
_CARD: Final = re.compile(r'(<div class="card flip" data-record="([^"]*)">).*?</div>', re.DOTALL)


def record_card(record_id: str, body: str) -> str:
    """Put the markup about one record into its card; `body` is escaped and has no div."""
    return f"{_OPEN.format(escape(record_id))}{body}</div>"


def clear_cards(page: str, is_forgotten: Callable[[str], bool]) -> tuple[str, int]:
    """Take forgotten records out of a page.

    Args:
        page: A page with cards.
        is_forgotten: Asked for each record id in it.
    Returns:
        The page, and how many records were taken out now.
    """
    cleared = 0

    def clear(match: re.Match[str]) -> str:
        nonlocal cleared
        empty = f'{match[1]}<p class="soft">{FORGOTTEN}</p></div>'
        if match[0] == empty or not is_forgotten(match[2]):
            return match[0]
        cleared += 1
        return empty

    return _CARD.sub(clear, page), cleared
