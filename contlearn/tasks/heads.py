"""What there are modules for: the heads that can be trained, exported and served; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contlearn.interfaces import HeadSpec, Loss, Task, View

__all__ = ["head_problems", "heads_problems"]

_NAME: Final = "logits"
_VIEWS: Final[tuple[View, ...]] = ("pooled", "words", "pieces")
_LOSSES: Final[tuple[Loss, ...]] = ("softmax", "sigmoid", "squared", "ordinal")


def head_problems(head: HeadSpec) -> list[str]:
    """Say in sentences why a head cannot be used; nothing where it can."""
    return [
        f"The {what} of the head is {value!r}; it can be {', '.join(known)}."
        for what, value, known in (
            ("name", head.name, (_NAME,)),
            ("view", head.view, _VIEWS),
            ("loss", head.loss, _LOSSES),
        )
        if value not in known
    ]


def heads_problems(task: Task, heads: Sequence[HeadSpec]) -> list[str]:
    """Say in sentences why the heads of a task cannot be used; nothing where they can."""
    problems = [problem for head in heads for problem in head_problems(head)]
    if len(heads) != 1:
        problems.append(f"There are {len(heads)} heads; one can be trained.")
    if task.special_pieces():
        named = ", ".join(map(repr, task.special_pieces()))
        problems.append(f"The pieces {named} are the task's own; none can be added yet.")
    if task.family != "encoder":
        problems.append(f"The family is {task.family!r}; 'encoder' can be trained.")
    return problems
