"""MODEL_CARD.md of a version, in the form that model hubs read. It holds no text of a record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from contlearn.evaluation.making import how_it_was_made
from contlearn.papers.decision import read_decision
from contlearn.papers.manifest import VersionFacts
from contlearn.papers.report import EvaluationReport, read_report
from contlearn.types import LabelScore, PromotionDecision
from contlearn.wording import metric_name, percent
from contlearn.workspace import FileOperations, write_bytes_atomic

__all__ = ["MODEL_CARD", "render_model_card", "write_model_card"]

MODEL_CARD: Final = "MODEL_CARD.md"
# The class of optimum that loads what is exported for a pipeline of transformers.
_LOADERS: Final = {
    "text-classification": "ORTModelForSequenceClassification",
    "token-classification": "ORTModelForTokenClassification",
}
# A model's id on a hub; a folder of this machine is nobody else's base model.
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WEAKEST: Final = 10
# The rest of how it was made stands in sentences above it.
_MADE: Final = (
    "settings that won the search",
    "training steps",
    "share of parameters trained",
    "seed",
    "label agreement of the export",
    "hash of the training records",
)


def write_model_card(
    folder: Path, *, name: str, facts: VersionFacts, files: FileOperations | None = None
) -> Path:
    """Write MODEL_CARD.md into a version folder, from its report.json and decision.json.

    Args:
        folder: The version being built.
        name: The model's name.
        facts: What is known of it.
        files: How files are changed.
    Returns:
        The card.
    Raises:
        StorageError: When a report is missing or the card cannot be written.
    """
    card = render_model_card(
        name=name,
        facts=facts,
        report=read_report(folder),
        decision=read_decision(folder),
    )
    path = folder / MODEL_CARD
    write_bytes_atomic(path, card.encode(), files=files or FileOperations())
    return path


def render_model_card(
    *, name: str, facts: VersionFacts, report: EvaluationReport, decision: PromotionDecision
) -> str:
    """Write the card as Markdown with a YAML head. Source: the hub's model card specification."""
    model, lineage = facts.model, facts.lineage
    kind = model.pipeline or model.task or "text"
    measured = {k: v for k, v in report.metrics.items() if v is not None}
    spoken = {k: metric_name(k, report.primary_metric) for k in measured}
    rows = sum(item.rows for item in report.sets)
    base = model.base or ""
    parts = [
        _head(
            name, kind, model.pipeline, base if _HUB_ID.fullmatch(base) else None, measured, spoken
        ),
        f"# {name}",
        (
            f"A {kind} model, fine-tuned by contlearn from `{_code(Path(base).name or '?')}` as "
            f"labelled records arrived: {len(lineage.experiences)} experiences so far, "
            f"the last with {_known(lineage.records)} records and the strategy "
            f"`{_code(_known(lineage.strategy))}`."
        ),
        "## Measures",
        (
            f"On {rows} held-out rows that were never trained on, with the ONNX model as it is "
            f"served ({_known(model.precision)})."
        ),
        _table(("measure", "value"), [(spoken[k], f"{v:.4f}") for k, v in measured.items()]),
        "## What the gate found",
        _table(
            ("rule", "verdict", "why"),
            [(outcome.rule, outcome.verdict, outcome.message) for outcome in decision.outcomes],
        ),
        "## Labels",
        _labels(report.per_label),
        "## Use",
        _use(model.pipeline, kind),
        (
            "Divide logits by the calibration temperature "
            f"{model.calibration.temperature:.4g} before taking probabilities. "
            f"Inputs longer than {_known(model.max_tokens)} tokens are cut."
        ),
        "## Limits",
        "The measures hold for texts like the held-out rows. "
        + (
            "The 8-bit model is checked for the processor features "
            f"{', '.join(model.processor) or 'unknown'}; contlearn checks it again "
            "elsewhere and falls back to 32 bits where it answers otherwise."
            if model.precision == "int8"
            else "The model runs in 32 bits."
        ),
        "## How it was made",
        _making(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(
    name: str,
    kind: str,
    pipeline: str | None,
    base: str | None,
    measured: Mapping[str, float],
    spoken: Mapping[str, str],
) -> str:
    head = ["---", "library_name: onnxruntime"]
    if pipeline is not None:
        head.append(f"pipeline_tag: {pipeline}")
    # JSON is YAML: quoting it this way keeps any name from being read as something else.
    if base is not None:
        head.append(f"base_model: {_quoted(base)}")
    head += ["tags:", "- contlearn", "- continual-learning"]
    if measured:
        head += ["model-index:", f"- name: {_quoted(name)}", "  results:"]
        head += ["  - task:", f"      type: {kind}", "    dataset:"]
        head += ["      name: held-out rows of all experiences", "      type: private"]
        head.append("    metrics:")
        for metric, value in measured.items():
            head += [f"    - type: {metric}", f"      value: {value:.4f}"]
            head.append(f"      name: {_quoted(spoken[metric])}")
    return "\n".join([*head, "---"])


def _labels(labels: Sequence[LabelScore]) -> str:
    if not labels:
        return "None was measured."
    weakest = sorted(labels, key=lambda item: (item.f1, item.label))[:_WEAKEST]
    names = ", ".join(f"`{_code(item.label)}`" for item in labels)
    rows = [(f"`{_code(item.label)}`", percent(item.f1), str(item.support)) for item in weakest]
    return f"{names}\n\nThe weakest:\n\n{_table(('label', 'F1', 'held-out rows'), rows)}"


def _use(pipeline: str | None, kind: str) -> str:
    loader = None if pipeline is None else _LOADERS.get(pipeline)
    if loader is None:
        return "Load the folder `onnx` with onnxruntime or with contlearn."
    return (
        "```python\n"
        f"from optimum.onnxruntime import {loader}\n"
        "from transformers import AutoTokenizer, pipeline\n\n"
        f'model = {loader}.from_pretrained("onnx")\n'
        'tokenizer = AutoTokenizer.from_pretrained("onnx")\n'
        f'answer = pipeline("{kind}", model=model, tokenizer=tokenizer)\n```\n\n'
        "optimum-onnx 0.1 needs transformers 4.57; onnxruntime alone loads `onnx/model.onnx` "
        "whatever is installed beside it."
    )


def _making(facts: VersionFacts) -> str:
    made = how_it_was_made(facts)
    names = [name for name in (*_MADE, *facts.lineage.environment) if name in made]
    return _table(("what", "value"), [(name, made[name]) for name in names])


def _known(value: object) -> str:
    return "?" if value is None else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _code(value: object) -> str:
    """Make a text fit between backticks, on one line."""
    return " ".join(str(value).split()).replace("`", "'")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: str) -> str:
    flat = " ".join(str(value).split())
    # Between backticks a reader shows "&lt;" as it stands.
    shown = flat if flat.startswith("`") else escape(flat, quote=False)
    return shown.replace("|", "\\|")
