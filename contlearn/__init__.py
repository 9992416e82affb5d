"""Continual fine-tuning of transformer text models, proven and served.

The public names are loaded when they are first used, so that importing this package has no effect
and stays quick:

    from pathlib import Path
    import contlearn

    folder = Path("my-intents")
    contlearn.make_workspace(folder, task="text-classification", base="bert-base-uncased")
    with contlearn.Context.open(folder) as context:
        contlearn.ingest_files(context, [Path("tickets.jsonl")])
        print(contlearn.UpdateCycle(context).run_once().outcome)
        print(contlearn.predict_texts(context, ["where is my parcel"])["predictions"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contlearn.errors import ContlearnError as ContlearnError
    from contlearn.pipeline.answers import evaluate_version as evaluate_version
    from contlearn.pipeline.answers import predict_texts as predict_texts
    from contlearn.pipeline.changes import promote_version as promote_version
    from contlearn.pipeline.changes import roll_back as roll_back
    from contlearn.pipeline.context import Context as Context
    from contlearn.pipeline.cycle import UpdateCycle as UpdateCycle
    from contlearn.pipeline.history import describe_version as describe_version
    from contlearn.pipeline.history import read_history as read_history
    from contlearn.pipeline.history import verify_versions as verify_versions
    from contlearn.pipeline.making import make_workspace as make_workspace
    from contlearn.pipeline.outcome import UpdateResult as UpdateResult
    from contlearn.pipeline.status import read_status as read_status
    from contlearn.pipeline.taking import ingest_files as ingest_files

__version__ = "0.1.0"

_PUBLIC = {
    "ContlearnError": "contlearn.errors",
    "Context": "contlearn.pipeline.context",
    "UpdateCycle": "contlearn.pipeline.cycle",
    "UpdateResult": "contlearn.pipeline.outcome",
    "describe_version": "contlearn.pipeline.history",
    "evaluate_version": "contlearn.pipeline.answers",
    "ingest_files": "contlearn.pipeline.taking",
    "make_workspace": "contlearn.pipeline.making",
    "predict_texts": "contlearn.pipeline.answers",
    "promote_version": "contlearn.pipeline.changes",
    "read_history": "contlearn.pipeline.history",
    "read_status": "contlearn.pipeline.status",
    "roll_back": "contlearn.pipeline.changes",
    "verify_versions": "contlearn.pipeline.history",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'contlearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
