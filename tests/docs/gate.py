"""Writes the measured parts of docs/gate.md from results/*.jsonl: python -m tests.docs.gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contlearn.config import GateConfig
from tests.benchmarks.common import read_rows
from tests.benchmarks.few_rows import CHANGES
from tests.benchmarks.lineages import BEFORE, NOW, UNCORRECTED

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"
BEGIN = "<!-- measured: written by python -m tests.docs.gate -->"
END = "<!-- end of measured -->"
MANY_BEGIN = "<!-- lineages: written by python -m tests.docs.gate -->"
MANY_END = "<!-- end of lineages -->"
FEW_BEGIN = "<!-- few rows: written by python -m tests.docs.gate -->"
FEW_END = "<!-- end of few rows -->"


def newest(kind: str, *keys: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Give the newest row of each case."""
    found = {}
    for row in read_rows("gate"):
        if row.get("kind") == kind:
            found[tuple(row[key] for key in keys)] = row
    return found


def measured() -> str:
    lines = [*false_promotions(), *power(), *new_rows()]
    return "\n".join([BEGIN, *lines, END])


def false_promotions() -> Iterator[str]:
    rows = newest("false", "metric", "labels", "rows", "disagreement").values()
    number = min((row["cycles"] for row in rows), default=0)
    yield f"Challengers that are truly worse by exactly the margin of 3 %, {number:,} cycles each:"
    yield ""
    yield "| metric | labels | old rows | only one answers right | promoted | by bare comparison |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield (
            f"| {row['metric']} | {row['labels']} | {row['rows']:,} | {row['disagreement']:.0%} "
            f"| {row['share']:.1%} | {row['bare']:.0%} |"
        )
    yield ""


def power() -> Iterator[str]:
    rows = newest("power", "margin", "rows", "change")
    number = min((row["cycles"] for row in rows.values()), default=0)
    changes = sorted({change for _, _, change in rows})
    words = {-0.01: "1 point worse", 0.0: "equal", 0.01: "1 point better", 0.02: "2 points better"}
    yield (
        "Power: share that the whole gate promotes, by the true change on the old rows "
        f"(accuracy, 10 % of rows that only one answers right, {number:,} cycles each):"
    )
    yield ""
    yield "| margin | old rows | " + " | ".join(words[c] for c in changes) + " |"
    yield "| --- " * (2 + len(changes)) + "|"
    for margin, size in sorted({(margin, size) for margin, size, _ in rows}):
        cells = " | ".join(cell(rows.get((margin, size, c))) for c in changes)
        yield f"| {margin:.0%} | {size:,} | {cells} |"
    yield ""


def new_rows() -> Iterator[str]:
    rows = newest("new", "rows", "case")
    number = min((row["cycles"] for row in rows.values()), default=0)
    cases = list(dict.fromkeys(case for _, case in rows))
    words = {
        "shuffled, known": "shuffled labels, known ones",
        "shuffled, new": "shuffled labels, new ones",
        "honest, gain": "honest: 80 % right, champion 50 %",
        "honest, even": "honest: both 90 % right",
    }
    yield (
        "New rows: share promoted where both versions answer 400 old rows alike, three labels, "
        f"{number:,} cycles each:"
    )
    yield ""
    yield "| new rows | " + " | ".join(words[case] for case in cases) + " |"
    yield "| --- " * (1 + len(cases)) + "|"
    for size in sorted({size for size, _ in rows}):
        cells = " | ".join(cell(rows.get((size, case))) for case in cases)
        yield f"| {size} | {cells} |"
    yield ""


def cell(row: dict[str, Any] | None) -> str:
    """Write a share, or a dash for what was not measured."""
    return "–" if row is None else f"{row['share']:.0%}"


def few_rows() -> Iterator[str]:
    """Give the table of few old rows, the observed difference's share in brackets."""
    found = {
        (row["old_rows"], row["differ_percent"], row["rule"]): row
        for row in read_rows("few_rows")
        if row["metric"] == "accuracy"
    }
    rule = f"chance of at most {GateConfig().chance_of_loss:.0%}"
    yield (
        "| old rows | only one answers right | "
        + " | ".join(name.replace("_", " ") for name in CHANGES)
        + " |"
    )
    yield "| --- " * (2 + len(CHANGES)) + "|"
    for rows, differ, _ in (key for key in found if key[2] == rule):
        ours, point = found[rows, differ, rule], found[rows, differ, "point"]
        cells = " | ".join(f"{ours[name]:.0f}% ({point[name]:.0f}%)" for name in CHANGES)
        yield f"| {rows} | {differ}% | {cells} |"


def lineages() -> Iterator[str]:
    """Give what adds up over many updates, and what honest work gets through."""
    cases = [row["case"] for row in read_rows("lineages") if "case" in row]
    yield "| true change an update | old rows | now | rules of before | first version, one look |"
    yield "| --- | --- | --- | --- | --- |"
    for case in (case for case in cases if case["kind"] == "erosion"):
        shares = " | ".join(f"{case[rules]:.1f}%" for rules in (NOW, BEFORE, UNCORRECTED))
        yield f"| {case['change']} | {case['rows']:,} | {shares} |"
    yield ""
    yield "What honest work gets through: ten points truly gained on the new rows, old ones equal. Share"
    yield "promoted at once, and within five updates in which kept records add up:"
    yield ""
    powers = {(c["rows"], c["update"]): c["shares"] for c in cases if c["kind"] == "power"}
    updates = sorted({update for _, update in powers})
    yield "| old rows | " + " | ".join(f"update {update}" for update in updates) + " |"
    yield "| --- " * (1 + len(updates)) + "|"
    for rows in sorted({rows for rows, _ in powers}):
        shares = (powers[rows, update] for update in updates)
        cells = " | ".join(f"{first:.0f}%, {last:.0f}%" for first, *_, last in shares)
        yield f"| {rows:,} | {cells} |"


def page(text: str) -> str:
    """Put the measured parts into the page."""
    before, _, rest = text.partition(MANY_BEGIN)
    text = "\n".join([before + MANY_BEGIN, *lineages(), MANY_END + rest.partition(MANY_END)[2]])
    before, _, rest = text.partition(FEW_BEGIN)
    text = "\n".join([before + FEW_BEGIN, *few_rows(), FEW_END + rest.partition(FEW_END)[2]])
    before, _, rest = text.partition(BEGIN)
    return before + measured() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
