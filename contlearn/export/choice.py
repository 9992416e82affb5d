"""The search for a precision: down a short ladder, by agreement and by time, both measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.config import ExportConfig
from contlearn.errors import ContlearnError, ExportError
from contlearn.export import parity
from contlearn.export.half import halve_graph
from contlearn.export.parity import Comparison, Reference
from contlearn.export.quantize import LADDER, STATIC, quantize_graph
from contlearn.inference.manifest import MODEL_FILE
from contlearn.inference.processor import has_safe_int8
from contlearn.wording import first_line

__all__ = ["Choice", "choose_precision"]

# A full disk, short memory and what we refuse ourselves say nothing about a graph.
_NOT_THE_GRAPH: Final = (ContlearnError, OSError, MemoryError)
# A shorter time than this share of fp32's makes int8 worth its rounding.
_FASTER: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The graph that is served, how it compares, and what else was tried.

    `warnings` are for those who update: what could not be made at all.
    """

    folder: Path
    precision: str
    recipe: str
    outcome: Comparison
    tried: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def choose_precision(
    exact: Path,
    work: Path,
    *,
    reference: Reference,
    outcome: Comparison,
    options: ExportConfig,
    precision: str,
    features: tuple[str, ...],
    calibration: Callable[[], Sequence[dict[str, Any]]],
) -> Choice:
    """Choose what is served.

    "auto" takes the first recipe of `LADDER` that gives the labels of its source often enough and
    is faster than fp32 on this processor; else fp32. "int8" asks for agreement only. A recipe that
    onnxruntime fails at is passed over, with a warning.

    Args:
        exact: Folder of the fp32 graph.
        work: Where other graphs are made.
        reference: What the graphs are compared with.
        outcome: How the fp32 graph compares.
        options: Tolerances.
        precision: "auto", "fp32", "int8", "int8-static" or "fp16".
        features: What this processor can do.
        calibration: Gives the inputs that static scales are taken from.
    Raises:
        ExportError: When the precision that was asked for does not agree, or cannot be made.
    """
    wanted = precision
    tried: list[dict[str, Any]] = [_facts("fp32", "", outcome)]
    notes: list[str] = []
    warnings: list[str] = []

    def chosen(folder: Path, name: str, recipe: str, found: Comparison) -> Choice:
        return Choice(
            folder=folder,
            precision=name,
            recipe=recipe,
            outcome=found,
            tried=tuple(tried),
            notes=tuple(notes),
            warnings=tuple(warnings),
        )

    if wanted == "fp32":
        return chosen(exact, "fp32", "", outcome)
    if wanted == "fp16":
        folder = work / "fp16"
        try:
            halve_graph(exact, folder)
            session = parity.open_session(folder / MODEL_FILE)
            found = parity.compare(session, reference, tolerance=0.0)
        except _NOT_THE_GRAPH:
            raise
        except Exception as error:  # onnx and onnxruntime have many
            raise _cannot(wanted, f"it could not be made: {first_line(error)}") from error
        tried.append(_facts("fp16", "", found))
        if found.agreement < options.min_label_agreement:
            raise _cannot(wanted, _too_little(found, options))
        return chosen(folder, "fp16", "", found)
    is_safe = has_safe_int8(features)
    if wanted == "auto" and not is_safe:
        notes.append("fp32: 8-bit products saturate on this processor (no VNNI)")
        return chosen(exact, "fp32", "", outcome)
    source, reason = parity.open_session(exact / MODEL_FILE), ""
    for recipe in (STATIC,) if wanted == "int8-static" else LADDER:
        folder = work / f"int8-{recipe}"
        feeds = calibration() if recipe == STATIC else ()
        try:
            quantize_graph(exact, folder, recipe=recipe, reduce_range=not is_safe, feeds=feeds)
            session = parity.open_session(folder / MODEL_FILE)
            found = parity.compare(session, reference, tolerance=0.0, alone=True)
        except _NOT_THE_GRAPH:
            raise
        except Exception as error:  # onnx and onnxruntime have many; fp32 is as right
            reason = f"it could not be made: {first_line(error)}"
            warnings.append(f"int8 ({recipe}) was left: {reason}")
            continue
        facts = _facts("int8", recipe, found)
        tried.append(facts)
        if found.agreement < options.min_label_agreement:
            reason = _too_little(found, options)
            notes.append(f"int8 ({recipe}) was left: {reason}")
            continue
        before, after = parity.median_seconds([source, session], reference)
        facts["milliseconds"] = round(1000 * after, 3)
        tried[0]["milliseconds"] = round(1000 * before, 3)
        if wanted == "auto" and after > _FASTER * before:
            notes.append(
                f"int8 ({recipe}) was left: it is not faster here ({1000 * after:.2f} ms against "
                f"{1000 * before:.2f} ms a text)"
            )
            continue
        return chosen(folder, "int8", recipe, found)
    if wanted != "auto":
        raise _cannot(wanted, reason)
    return chosen(exact, "fp32", "", outcome)


def _cannot(wanted: str, reason: str) -> ExportError:
    return ExportError(
        f"{wanted} was asked for, but {reason}.",
        where=f'precision "{wanted}"',
        hint='Use the precision "auto", which falls back to fp32.',
    )


def _too_little(found: Comparison, options: ExportConfig) -> str:
    return (
        f"it gives the label of its source in {found.agreement:.2%} of {found.rows} rows, less "
        f"than export.min_label_agreement = {options.min_label_agreement:g}"
    )


def _facts(precision: str, recipe: str, found: Comparison) -> dict[str, Any]:
    return {
        "precision": precision,
        "recipe": recipe,
        "label_agreement": found.agreement,
        "max_abs_difference": found.max_abs_difference,
        "relative_difference": found.relative_difference,
    }
