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

from contlearn.version import __version__

if TYPE_CHECKING:
    from contlearn.context import Context as Context
    from contlearn.cycle.changes import promote_version as promote_version
    from contlearn.cycle.changes import roll_back as roll_back
    from contlearn.cycle.outcome import UpdateResult as UpdateResult
    from contlearn.cycle.update_cycle import UpdateCycle as UpdateCycle
    from contlearn.errors import ContlearnError as ContlearnError
    from contlearn.operations.evaluate import evaluate_version as evaluate_version
    from contlearn.operations.history import read_history as read_history
    from contlearn.operations.ingest import ingest_files as ingest_files
    from contlearn.operations.init import make_workspace as make_workspace
    from contlearn.operations.predict import predict_texts as predict_texts
    from contlearn.operations.show import describe_version as describe_version
    from contlearn.operations.status import read_status as read_status
    from contlearn.operations.verify import verify_versions as verify_versions

_PUBLIC = {
    "ContlearnError": "contlearn.errors",
    "Context": "contlearn.context",
    "UpdateCycle": "contlearn.cycle.update_cycle",
    "UpdateResult": "contlearn.cycle.outcome",
    "describe_version": "contlearn.operations.show",
    "evaluate_version": "contlearn.operations.evaluate",
    "ingest_files": "contlearn.operations.ingest",
    "make_workspace": "contlearn.operations.init",
    "predict_texts": "contlearn.operations.predict",
    "promote_version": "contlearn.cycle.changes",
    "read_history": "contlearn.operations.history",
    "read_status": "contlearn.operations.status",
    "roll_back": "contlearn.cycle.changes",
    "verify_versions": "contlearn.operations.verify",
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
