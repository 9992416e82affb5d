"""The section of a version's page that shows flips with the words that decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from contlearn.cards import record_card

__all__ = ["worst_flips"]


def worst_flips(flips: Sequence[Mapping[str, Any]] | None) -> str:
    """Show flips: words for the wrong answer red, against it green; nothing where none are given.

    Args:
        flips: As `operations.report.worst_flips` finds them.
    """
    if flips is None:
        return ""
    if not flips:
        body = '<p class="soft">None: whatever the champion had right is right.</p>'
    else:
        # A card of a record is emptied when the record is forgotten.
        body = "".join(record_card(str(flip["record_id"]), _flip(flip)) for flip in flips)
    return (
        '<p class="soft">Held-out texts that the champion had right. Red words speak for the wrong '
        f"answer, green ones against it.</p>{body}"
    )


def _flip(flip: Mapping[str, Any]) -> str:
    words = flip["explanation"]["words"]
    texts = flip["explanation"].get("texts") or {None: flip["text"]}
    return (
        f"<b>{escape(str(flip['expected']))}</b> became "
        f'<b class="bad">{escape(str(flip["answer"]))}</b> '
        f'<span class="soft">({100 * flip["confidence"]:.0f} % sure, set {flip["set"]})</span>'
    ) + "".join(
        f"<p>{_marked(text, [word for word in words if word.get('field') == name])}</p>"
        for name, text in texts.items()
    )


def _marked(text: str, words: Sequence[Mapping[str, Any]]) -> str:
    most = max((abs(word["weight"]) for word in words), default=0.0) or 1.0
    parts, at = [], 0
    for word in words:
        parts.append(escape(text[at : word["start"]]))
        at = word["end"]
        strength = 0.5 * min(1.0, abs(word["weight"]) / most)
        inside = escape(text[word["start"] : at])
        if strength < 0.05:
            parts.append(inside)
            continue
        colour = "bad" if word["weight"] > 0 else "good"
        parts.append(
            f'<span style="background: color-mix(in srgb, var(--{colour}) {strength:.0%}, '
            f'transparent)" title="{word["weight"]:+.2f}">{inside}</span>'
        )
    parts.append(escape(text[at:]))
    return "".join(parts)
