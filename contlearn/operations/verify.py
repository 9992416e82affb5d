"""Whether versions, what is served and the journal are as they were written."""

from __future__ import annotations

from typing import Any

from contlearn.context import Context
from contlearn.registry.aliases import resolve_version
from contlearn.registry.serving_copy import verify_serving

__all__ = ["verify_versions"]


def verify_versions(context: Context, version: int | str | None) -> dict[str, Any]:
    """Compare the files of one version, or of all and of what is served, with their SHA-256."""
    numbers = context.registry.numbers()
    if version is not None:
        numbers = (resolve_version(context.registry, version),)
        context.registry.require(numbers[0])
    checked = [
        {"version": number, "problems": [str(p) for p in context.registry.verify(number)]}
        for number in numbers
    ]
    serving = verify_serving(context.registry) if version is None else []
    journal = context.registry.journal.verify() if version is None else []
    ok = not (serving or journal or any(item["problems"] for item in checked))
    return {"ok": ok, "versions": checked, "serving": serving, "journal": journal}
