"""MODEL_CARD.md of a version, in the form that model hubs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.workspace import FileOperations, read_json, write_bytes_atomic

__all__ = ["MODEL_CARD", "render_model_card", "write_model_card"]

MODEL_CARD: Final = "MODEL_CARD.md"
_LOADERS: Final = {
    "sequence-classification": "ORTModelForSequenceClassification",
    "token-classification": "ORTModelForTokenClassification",
}
_PIPELINES: Final = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}


def write_model_card(
    folder: Path, *, name: str, facts: Mapping[str, Any], files: FileOperations | None = None
) -> Path:
    """Write MODEL_CARD.md into a version folder, from its report.json and decision.json.

    Args:
        folder: The version being built.
        name: The model's name.
        facts: Parts of the manifest: `model`, `lineage`, `training`, `export`.
        files: How files are changed.
    Returns:
        The card.
    Raises:
        StorageError: When a report is missing or the card cannot be written.
    """
    card = render_model_card(
        name=name,
        facts=facts,
        report=read_json(folder / "report.json"),
        decision=read_json(folder / "decision.json"),
    )
    path = folder / MODEL_CARD
    write_bytes_atomic(path, card.encode(), files=files or FileOperations())
    return path


def render_model_card(
    *, name: str, facts: Mapping[str, Any], report: Mapping[str, Any], decision: Mapping[str, Any]
) -> str:
    """Write the card as Markdown with a YAML head. Source: the hub's model card specification."""
    model, lineage = facts.get("model", {}), facts.get("lineage", {})
    graph = str(model.get("graph", "sequence-classification"))
    measured = {k: v for k, v in report["metrics"].items() if v is not None}
    rows = sum(item["rows"] for item in report["sets"])
    head = ["---", "library_name: onnxruntime", f"pipeline_tag: {_PIPELINES.get(graph, graph)}"]
    # JSON is YAML: quoting it this way keeps any name from being read as something else.
    head += [f"base_model: {json.dumps(str(model.get('base', '')))}", "tags:", "- contlearn"]
    head += ["- continual-learning", "model-index:", f"- name: {json.dumps(name)}", "  results:"]
    head += ["  - task:", f"      type: {_PIPELINES.get(graph, graph)}", "    dataset:"]
    head += ["      name: held-out rows of all experiences", "      type: private", "    metrics:"]
    for metric, value in measured.items():
        head += [f"    - type: {metric}", f"      value: {value:.4f}"]
    head.append("---")
    labels = [str(item["label"]) for item in report["per_label"]]
    parts = [
        "\n".join(head),
        f"# {name}",
        (
            f"A {_PIPELINES.get(graph, graph)} model, fine-tuned by contlearn from "
            f"`{model.get('base', '?')}` as labelled records arrived: "
            f"{len(lineage.get('experiences', ()))} experiences so far, the last with "
            f"{lineage.get('records', '?')} records and the strategy "
            f"`{lineage.get('strategy', '?')}`."
        ),
        "## Measures",
        (
            f"On {rows} held-out rows that were never trained on, with the ONNX model as it is "
            f"served ({model.get('precision', '?')})."
        ),
        _table(("measure", "value"), [(k, f"{v:.4f}") for k, v in measured.items()]),
        "## What the gate found",
        _table(
            ("rule", "verdict", "why"),
            [
                (
                    outcome["rule"],
                    {True: "passed", False: "refused", None: "not applicable"}[outcome["passed"]],
                    outcome["message"],
                )
                for outcome in decision.get("outcomes", ())
            ],
        ),
        "## Labels",
        ", ".join(f"`{label}`" for label in labels) or "none measured",
        "## Use",
        (
            "```python\n"
            f"from optimum.onnxruntime import {_LOADERS.get(graph, 'ORTModel')}\n\n"
            f'model = {_LOADERS.get(graph, "ORTModel")}.from_pretrained("onnx")\n```'
        ),
        (
            "Divide logits by the calibration temperature "
            f"{float(model.get('temperature', 1.0)):.4g} before taking probabilities. "
            f"Inputs longer than {model.get('max_tokens', '?')} tokens are cut."
        ),
        "## Limits",
        "The measures hold for texts like the held-out rows. "
        + (
            "The 8-bit model is checked for the processor features "
            f"{', '.join(model.get('processor', ())) or 'unknown'}; contlearn checks it again "
            "elsewhere and falls back to 32 bits where it answers otherwise."
            if model.get("precision") == "int8"
            else "The model runs in 32 bits."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: str) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
