"""How a version was made, in words: for its page and for its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contlearn.papers.manifest import VersionFacts
from contlearn.wording import megabytes, number, percent

__all__ = ["how_it_was_made"]


def how_it_was_made(facts: VersionFacts) -> dict[str, str]:
    """Give what is known of base model, fit and export, each by its name; what is not is absent."""
    model, lineage, training, export = facts.model, facts.lineage, facts.training, facts.export
    options = lineage.strategy_options
    said: dict[str, Any] = {
        "base model": model.base,
        "pooling": model.pooling,
        "token limit": model.max_tokens,
        "calibration temperature": number(model.calibration.temperature),
        "strategy": lineage.strategy,
        "its options": json.dumps(options, ensure_ascii=False) if options else None,
        "settings that won the search": _settings(lineage.search),
        "training steps": training.steps,
        "training seconds": number(training.seconds),
        "share of parameters trained": percent(training.trained_share),
        "seed": lineage.seed,
        "label agreement of the export": percent(export.label_agreement),
        "largest difference of logits": number(export.max_abs_difference),
        "size of model.onnx": megabytes(export.size_bytes),
        "notes of the export": "; ".join(export.notes),
        "processor": ", ".join(model.processor),
        "hash of the training records": lineage.data_hash,
        **lineage.environment,
    }
    return {name: str(value) for name, value in said.items() if value not in (None, "", "–")}


def _settings(settings: Mapping[str, Any] | None) -> str | None:
    return ", ".join(f"{key} = {value}" for key, value in settings.items()) if settings else None
