"""Every file of the dirty set gets the verdict that its expected.json states.

Where expected.json allows another outcome in prose (`also`) or asks for something in prose
(`must`), the check stands here under the file's name; a name that is missing fails.
"""

from __future__ import annotations

import json
import os
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contlearn.data.quarantine.looking import export_quarantine
from contlearn.errors import PluginError
from tests.unit.data.taking import LABELS, Taker, make_config, taker

TASKS = {
    "text": "text-classification",
    "tagging": "token-classification",
    "question answering": "question-answering",
    "relation": "relation-classification",
    "generation": "text-generation",
    "dialogue": "dialogue",
    "several labels a text": "multi-label-classification",
}


def _entries() -> list[dict]:
    folder = os.environ.get("CONTLEARN_DATA")
    path = Path(folder or "", "dirty", "expected.json")
    return json.loads(path.read_text())["files"] if folder and path.is_file() else []


ENTRIES = _entries()


@dataclass(frozen=True)
class Outcome:
    """A verdict, how many rows are used, and the refused ones: their number and reason."""

    verdict: str
    good: int
    bad: dict[int, str] = field(default_factory=dict)
    whole: str | None = None
    duplicates: int = 0
    notice: str | None = None


@dataclass
class Taken:
    """What became of a file, for the checks in prose."""

    folder: Path
    entry: dict
    taking: Taker
    report: dict
    seconds: float
    grown_bytes: int

    @property
    def file(self) -> dict:
        return self.report["files"][0]

    @property
    def texts(self) -> list[str]:
        return [str(record.inputs.get("text")) for record in self.taking.records()]

    @property
    def labels(self) -> set[str]:
        return {str(record.target) for record in self.taking.records()}

    def source(self) -> list[dict]:
        lines = (self.folder / self.entry["file"]).read_bytes().split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    def warning(self, code: str) -> list[dict]:
        found = [w for w in self.file["warnings"] if w["code"] == code]
        return found[0]["examples"] if found else []


# Outcomes that expected.json allows besides the first, where this program has one of them.
ALSO: dict[str, tuple[Outcome, ...]] = {
    "plain_text_named.jsonl.gz": (Outcome("ok", 5, notice="plain-text"),),
    "high_ratio.jsonl.gz": (Outcome("ok", 2, notice="cut"),),
    "utf16le_bom.jsonl": (Outcome("ok", 4, notice="encoding"),),
    "latin1.jsonl": (Outcome("reject", 0, whole="bad-encoding"),),
    "nul_bytes.jsonl": (Outcome("partial", 3, {2: "not-json"}, notice="nul-removed"),),
    "mixed_newlines.jsonl": (Outcome("ok", 5),),
    "label_near_misses.jsonl": (
        Outcome("partial", 2, dict.fromkeys((2, 3, 4, 5, 6), "unknown-label")),
    ),
    "one_mb_line.jsonl": (Outcome("partial", 2, {2: "too-long"}),),
    "duplicate_rows.jsonl": (Outcome("ok", 6, notice="duplicate"),),
    "conflicting_labels.jsonl": (Outcome("ok", 6, notice="conflict"),),
    "near_duplicates.jsonl": (Outcome("ok", 4),),
    "json_array.jsonl": (Outcome("ok", 4, notice="json-array"),),
    "json_array_one_line.jsonl": (Outcome("ok", 4, notice="json-array"),),
    "nan_infinity.jsonl": (Outcome("ok", 6),),
    "duplicate_keys.jsonl": (Outcome("ok", 4, notice="duplicate-key"),),
    "lone_surrogate.jsonl": (Outcome("ok", 5, notice="repaired"),),
    "control_and_ansi.jsonl": (
        Outcome("partial", 1, {1: "control-char", 2: "unknown-label", 3: "control-char"}),
    ),
    "wrong_delimiter.csv": (Outcome("ok", 3, notice="delimiter"),),
    "tabs_named.csv": (Outcome("ok", 2, notice="delimiter"),),
    "unclosed_quote.csv": (Outcome("reject", 0, whole="bad-columns"),),
    "invalid_bio.jsonl": (
        Outcome(
            "partial",
            1,
            dict.fromkeys((2, 3, 4), "bad-sequence") | dict.fromkeys(range(5, 11), "bad-tag"),
        ),
    ),
    "bad_lines.conll": (
        Outcome("partial", 2, {2: "bad-columns", 3: "bad-columns", 5: "bad-columns"}),
    ),
    # Tasks that may come: the alternatives concern single rows of theirs.
    "answer_spans.jsonl": (),
    "dialogue_turns.jsonl": (),
}


def _reason_is(reason: str) -> Callable[[Taken], None]:
    def check(taken: Taken) -> None:
        assert taken.file["reason"] == reason

    return check


def _nothing_used(taken: Taken) -> None:
    assert taken.taking.rows() == []
    assert list(taken.taking.workspace.records.glob("*.parquet")) == []


def _memory_is_bounded(taken: Taken) -> None:
    assert taken.grown_bytes < 120_000_000
    small = make_config(labels=LABELS, limits={"unpacked_bytes": 1_000_000})
    with taker(taken.taking.workspace.root / "small", small) as other:
        report = other.ingest(taken.folder / taken.entry["file"])
    assert report["files"][0]["reason"] == "too-long"


def _no_mark(taken: Taken) -> None:
    assert taken.texts == [row["text"] for row in _decoded(taken, "utf-8-sig")]


def _decoded(taken: Taken, encoding: str) -> list[dict]:
    text = (taken.folder / taken.entry["file"]).read_bytes().decode(encoding)
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _no_nul(taken: Taken) -> None:
    assert taken.texts == [row["text"] for row in _decoded(taken, "utf-16")]
    assert not any("\0" in text for text in taken.texts)


def _no_mojibake(taken: Taken) -> None:
    lines = (taken.folder / taken.entry["file"]).read_bytes().split(b"\n")
    whole = [json.loads(line) for line in lines if line and line.isascii()]
    assert taken.texts == [row["text"] for row in whole]


def _no_carriage_return(taken: Taken) -> None:
    assert not any(text.endswith("\r") for text in [*taken.texts, *taken.labels])


def _separators_stay_inside(taken: Taken) -> None:
    assert "\u2028" in taken.texts[-1]
    assert "\x85" in taken.texts[-1]


def _last_row_is_used(taken: Taken) -> None:
    assert taken.texts[-1] == taken.source()[-1]["text"]


def _open_labels_grow(taken: Taken) -> None:
    with taker(taken.taking.workspace.root / "open", make_config()) as other:
        file = other.ingest(taken.folder / taken.entry["file"])["files"][0]
        assert {record.target for record in other.records()} >= {"complaint"}
        assert [(q["line_number"], q["reason"]) for q in other.quarantine()] == [
            (3, "unknown-label")
        ]
    assert file["accepted"] == 4


def _labels_are_not_made_up(taken: Taken) -> None:
    assert taken.labels == {"billing", "returns"}


def _no_class_that_looks_the_same(taken: Taken) -> None:
    assert taken.labels == {"billing", "shipping"}
    told = [row["message"] for row in taken.taking.quarantine()]
    assert all("'billing'" in message for message in told)
    # Also where the set of labels is open.
    with taker(taken.taking.workspace.root / "open", make_config()) as other:
        other.ingest(taken.folder / taken.entry["file"])
        assert {record.target for record in other.records()} == {"billing", "shipping"}


def _is_quick(taken: Taken) -> None:
    assert taken.seconds < 10


def _conflicts_name_each_other(taken: Taken) -> None:
    rows = [row for row in taken.taking.quarantine() if row["reason"] == "conflict"]
    assert len(rows) == 4
    assert all(re.search(r"on line \d", row["message"]) for row in rows)


def _one_class_is_warned_of(taken: Taken) -> None:
    assert "one class" in taken.warning("one-class")[0]["message"]


def _each_row_has_one_side(taken: Taken) -> None:
    sides = {row.record_id: row.split for row in taken.taking.rows()}
    assert len(sides) == taken.entry["good"]
    assert set(sides.values()) <= {"train", "held_out"}
    assert [e["line_number"] for e in taken.warning("one-row-class")] == [17]


def _all_or_nothing(taken: Taken) -> None:
    assert taken.file["accepted"] in (0, 4)


def _one_message(taken: Taken) -> None:
    assert [problem["count"] for problem in taken.file["problems"]] == [1]
    assert taken.taking.quarantine() == []


def _rows_after_are_read(taken: Taken) -> None:
    assert taken.texts[-1] == "Where is my parcel right now"


def _can_be_written(taken: Taken) -> None:
    assert json.dumps(taken.report, ensure_ascii=False).encode("utf-8")
    assert json.dumps(taken.taking.quarantine(), ensure_ascii=False).encode("utf-8")
    assert all(text.encode("utf-8") for text in taken.texts)


def _text_comes_back(taken: Taken) -> None:
    assert taken.texts == [row["text"] for row in taken.source()]


def _shown_escaped(taken: Taken) -> None:
    shown = json.dumps([taken.report, taken.taking.quarantine()], ensure_ascii=False)
    said = [row["message"] + row["hint"] for row in taken.taking.quarantine()]
    said += [e["message"] for w in taken.file["warnings"] for e in w["examples"]]
    assert said
    assert all(text.isprintable() for text in said)
    assert "\x1b" not in shown


def _nothing_outside(taken: Taken) -> None:
    root = taken.taking.workspace.root
    assert sorted(path.name for path in root.parent.iterdir()) == [root.name]
    names = [path.name for path in root.rglob("*")]
    assert not any("passwd" in n or "system32" in n or n == "CON" for n in names)


def _quotes_are_undone(taken: Taken) -> None:
    first, *others = taken.texts
    assert first.split() == ["First", "line", "second", "line", "of", "the", "same", "text"]
    assert others == ['He said "send it back" twice', "comma, inside", "plain"]


def _first_row_is_named(taken: Taken) -> None:
    assert "first row" in taken.file["message"]
    assert "The refund has not reached my bank" in taken.file["message"]


def _swallowed_rows_are_not_used(taken: Taken) -> None:
    assert taken.texts == ["Fine", "Also fine"]
    assert "Record 3, which begins on line 4" in taken.taking.quarantine()[0]["message"]


def _formulas_are_guarded(taken: Taken) -> None:
    assert taken.texts[0].startswith("=HYPERLINK(")
    # The same cells refused, then written as a sheet.
    with taker(taken.taking.workspace.root / "other", make_config(labels=("x", "y"))) as other:
        other.ingest(taken.folder / taken.entry["file"])
        sheet = taken.taking.workspace.root / "sheet.csv"
        assert export_quarantine(other.workspace, sheet) == 5
    cells = re.split(r"[,\n\r]", sheet.read_text())
    assert not [cell for cell in cells if cell.lstrip('"')[:1] in ("=", "+", "-", "@", "\t")]


def _no_document_mark(taken: Taken) -> None:
    assert not any("-DOCSTART-" in record.inputs["tokens"] for record in taken.taking.records())
    assert taken.file["rows"] == 5


MUST: dict[str, Callable[[Taken], None]] = {
    "blank_lines_only.jsonl": _reason_is("empty-file"),
    "truncated.jsonl.gz": _nothing_used,
    "high_ratio.jsonl.gz": _memory_is_bounded,
    "bom_utf8.jsonl": _no_mark,
    "utf16le_bom.jsonl": _no_nul,
    "latin1.jsonl": _no_mojibake,
    "crlf.jsonl": _no_carriage_return,
    "mixed_newlines.jsonl": _separators_stay_inside,
    "no_final_newline.jsonl": _last_row_is_used,
    "unknown_label.jsonl": _open_labels_grow,
    "label_wrong_type.jsonl": _labels_are_not_made_up,
    "label_near_misses.jsonl": _no_class_that_looks_the_same,
    "one_mb_line.jsonl": _is_quick,
    "conflicting_labels.jsonl": _conflicts_name_each_other,
    "one_class_only.jsonl": _one_class_is_warned_of,
    "class_of_one_row.jsonl": _each_row_has_one_side,
    "json_array.jsonl": _all_or_nothing,
    "pretty_printed.jsonl": _one_message,
    "deep_nesting.jsonl": _rows_after_are_read,
    "lone_surrogate.jsonl": _can_be_written,
    "emoji_rtl_zero_width.jsonl": _text_comes_back,
    "control_and_ansi.jsonl": _shown_escaped,
    "markup_and_scripts.jsonl": _text_comes_back,
    "path_like_ids.jsonl": _nothing_outside,
    "quoted_newlines.csv": _quotes_are_undone,
    "missing_header.csv": _first_row_is_named,
    "unclosed_quote.csv": _swallowed_rows_are_not_used,
    "formula_cells.csv": _formulas_are_guarded,
    "bad_lines.conll": _no_document_mark,
}


def _first_outcome(entry: dict) -> Outcome:
    bad = [row for row in entry["bad"] if row["verdict"] == "bad"]
    numbered = [row for row in bad if {"line", "record", "sentence"} & row.keys()]
    return Outcome(
        entry["verdict"],
        entry["good"],
        {
            row.get("line") or row.get("record") or row["sentence"]: row["reason"]
            for row in numbered
        },
        whole=next((row["reason"] for row in bad if row not in numbered), None)
        or ("empty-file" if entry["rows"] == 0 and entry["verdict"] == "reject" else None),
        duplicates=sum(row["verdict"] == "drop" for row in entry["bad"]),
    )


def _number(row: dict) -> int:
    """The number that expected.json counts by: the record or sentence where the message says it."""
    found = re.search(r"[Rr]ecord (\d+), which|sentence (\d+)", row["message"])
    return int(found[1] or found[2]) if found else row["line_number"]


def _problems(outcome: Outcome, taken: Taken) -> list[str]:
    """Say in what an outcome differs from what came out."""
    file, found = taken.file, []
    if (file["verdict"], file["accepted"]) != (outcome.verdict, outcome.good):
        found.append(f"{file['verdict']} with {file['accepted']} used")
    if outcome.whole is not None:
        if file["reason"] != outcome.whole:
            found.append(f"refused for {file['reason']}")
        return found
    refused = {_number(row): row["reason"] for row in taken.taking.quarantine()}
    if refused != outcome.bad:
        found.append(f"refused rows {refused}")
    if file["duplicates"] != outcome.duplicates:
        found.append(f"{file['duplicates']} duplicates")
    if outcome.notice is not None and not taken.warning(outcome.notice):
        found.append(f"no notice {outcome.notice}")
    counts = [file[name] for name in ("accepted", "duplicates", "conflicts", "rejected")]
    if sum(counts) != file["rows"]:
        found.append(f"{counts} do not add up to {file['rows']}")
    return found


def _labels_of(entry: dict) -> tuple[str, ...]:
    found = re.search(r"\((.+)\)", entry["task"])
    return tuple(found[1].split(", ")) if found else LABELS


@pytest.mark.skipif(not ENTRIES, reason="needs real data: set CONTLEARN_DATA to its folder")
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_dirty_file_gets_the_verdict_that_is_expected(entry, tmp_path, real_data):
    folder = real_data / "dirty"
    task = TASKS[entry["task"].partition(" (")[0]]
    config = make_config(task=task, labels=_labels_of(entry), near_duplicates=True)
    with taker(tmp_path / "ws", config) as taking:
        if task not in taking.manager.table("task"):
            _is_refused_as_another_task(taking, folder / entry["file"], task)
            return
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        report = taking.ingest(folder / entry["file"])
        taken = Taken(
            folder,
            entry,
            taking,
            report,
            time.monotonic() - started,
            1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
        )
        allowed = [_first_outcome(entry), *(ALSO[entry["file"]] if entry["also"] else ())]
        differences = [_problems(outcome, taken) for outcome in allowed]
        assert [] in differences, differences
        if entry["must"]:
            MUST[entry["file"]](taken)
        _one_row_warnings_are_given(entry, taken)


def _one_row_warnings_are_given(entry: dict, taken: Taken) -> None:
    """Rows that are used with a warning: the warning is there, unless `also` lets it be."""
    if entry["also"]:
        return
    warned = [row for row in entry["bad"] if row["verdict"] == "good-warn"]
    assert not warned or taken.file["warnings"]


def _is_refused_as_another_task(taking: Taker, path: Path, task: str) -> None:
    """A file of a task that does not exist is refused with that reason, whichever way it comes."""
    with pytest.raises(PluginError, match=f"There is no task '{task}'"):
        taking.ingest(path)
    report = taking.ingest(path, config=make_config(labels=LABELS))
    file = report["files"][0]
    assert (file["verdict"], file["accepted"], file["reason"]) == ("reject", 0, "missing-field")
    assert "The rows look like data for" in file["message"]
    assert taking.rows() == []


@pytest.mark.skipif(not ENTRIES, reason="needs real data: set CONTLEARN_DATA to its folder")
def test_every_prose_line_of_the_dirty_files_has_its_check():
    also = {entry["file"] for entry in ENTRIES if entry["also"]}
    must = {entry["file"] for entry in ENTRIES if entry["must"]}
    assert also == set(ALSO)
    assert must == set(MUST)
