"""Pages for people: the history of the model, or one version with its worst flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from contlearn.cards import record_card
from contlearn.context import Context
from contlearn.errors import EvaluationError
from contlearn.operations.predict import chosen_version
from contlearn.registry.versions import ModelVersion
from contlearn.workspace import storage_border, write_bytes_atomic

__all__ = ["flips_section", "report_all", "report_version", "worst_flips"]


def report_all(context: Context, output: Path | None = None) -> dict[str, Any]:
    """Write the history of the model as one page.

    Returns:
        What `contlearn report --json` prints: `path`, `size_bytes`, `versions`.
    Raises:
        StorageError: When the page cannot be written.
    """
    from contlearn.operations.overview import read_overview
    from contlearn.pages.overview import render_overview

    value = read_overview(context)
    path = _write(context, output, "history.html", render_overview(value))
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "versions": len(value["versions"]),
    }


def report_version(
    context: Context, version: int | str | None, output: Path | None = None, *, flips: int = 0
) -> dict[str, Any]:
    """Write the page of a version, or of the champion, with the texts that are still there.

    Returns:
        `path`, `size_bytes`, `version`, and `flips` as in `worst_flips`.
    Raises:
        RegistryError: When there is no such version.
        StorageError: When the page cannot be written, or the version has none.
    """
    from contlearn.pages.slices import add_slices_to_page
    from contlearn.pages.version_page import make_report

    chosen = chosen_version(context, version)
    with storage_border("write the page", output or context.workspace.reports):
        path = make_report(context, chosen.version, output=output)
    add_slices_to_page(chosen.path, path)
    found = worst_flips(context, chosen, flips) if flips else []
    if flips:
        page = path.read_text(encoding="utf-8")
        write_bytes_atomic(
            path,
            page.replace("</body>", flips_section(found) + "\n</body>", 1).encode(),
            mode=context.workspace.text_mode(),
        )
    path = path.absolute()
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "version": chosen.version,
        "flips": found,
    }


def worst_flips(context: Context, version: ModelVersion, most: int) -> list[dict[str, Any]]:
    """Find held-out rows that the champion before had right and this version has not.

    The surest wrong answers come first, each with the words that speak for and against it. Texts
    that were forgotten since are left out.

    Raises:
        EvaluationError: When the answers of the version are not there, or cannot be explained.
        RegistryError: When the version is not signed, and has to be.
    """
    from contlearn.data.store import read_records
    from contlearn.inference.attribution import explain_input
    from contlearn.registry.loading import load_version
    from contlearn.workspace import read_json

    if "scores" not in context.task.gives:
        raise EvaluationError(
            "Only classifications can be explained by words.",
            where="report --flips",
            hint="Leave --flips out.",
        )
    stored = read_json(version.path / "scores.json")
    candidates = _flips(stored)
    if not candidates:
        return []
    records = {
        record.record_id: record
        for record in read_records(
            context.workspace, context.catalog, [c["record_id"] for c in candidates[: 4 * most]]
        )
    }
    found: list[dict[str, Any]] = []
    with load_version(context.registry, version, context.manager) as predictor:
        for item in candidates:
            record = records.get(item["record_id"])
            if record is None:
                continue
            explanation = explain_input(predictor, record.inputs, label=item["answer"]).to_json()
            text = context.task.text_of(record.inputs)
            found.append({**item, "text": text, "explanation": explanation})
            if len(found) == most:
                break
    return found


def _flips(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    from contlearn.evaluation.answers import unpack_targets

    rows: list[dict[str, Any]] = []
    for item in stored["sets"]:
        if item["champion"] is None:
            continue
        targets = unpack_targets(item["targets"])
        mine, theirs = unpack_targets(item["challenger"]), unpack_targets(item["champion"])
        sure = item["challenger"]["confidences"] or [0.0] * len(targets)
        for record_id, target, answer, before, confidence in zip(
            item["record_ids"], targets, mine, theirs, sure, strict=True
        ):
            if before == target != answer:
                rows.append(
                    {
                        "record_id": record_id,
                        "set": item["index"] + 1,
                        "expected": target,
                        "answer": answer,
                        "confidence": confidence,
                    }
                )
    rows.sort(key=lambda row: (-row["confidence"], row["record_id"]))
    return rows


def flips_section(flips: Sequence[Mapping[str, Any]]) -> str:
    """Write flips as a part of the page: words for the wrong answer red, against it green."""
    if not flips:
        body = '<p class="soft">None: whatever the champion had right is right.</p>'
    else:
        # A card of a record is emptied when the record is forgotten.
        body = "".join(record_card(str(flip["record_id"]), _flip(flip)) for flip in flips)
    note = (
        '<p class="soft">Held-out texts that the champion had right. Red words speak for the wrong '
        "answer, green ones against it.</p>"
    )
    return f"<section><h2>Worst flips</h2>{note}{body}</section>"


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
        colour = "207, 34, 46" if word["weight"] > 0 else "26, 127, 55"
        parts.append(
            f'<span style="background: rgba({colour}, {strength:.2f})" '
            f'title="{word["weight"]:+.2f}">{inside}</span>'
        )
    parts.append(escape(text[at:]))
    return "".join(parts)


def _write(context: Context, output: Path | None, name: str, page: str) -> Path:
    path = output or context.workspace.reports / name
    with storage_border("write the page", path):
        if output is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, page.encode(), mode=context.workspace.text_mode())
    return path.absolute()
