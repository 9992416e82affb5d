"""The built-in tasks, registered through the hook that plugins use."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_tasks() -> list[type]:
    """Give the task classes."""
    from contlearn.tasks.text_classification import TextClassification
    from contlearn.tasks.token_classification import TokenClassification

    return [TextClassification, TokenClassification]
