"""What `suggest` writes comes back as exactly what a person answered, in every tool's form."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contlearn.data.formats.reading import find_parser
from contlearn.data.intake.checking import RowChecker
from contlearn.errors import UsageError
from contlearn.interfaces import FieldNames, RowProblem
from contlearn.operations import suggest as suggesting
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.rows import clean_text, normal_text
from contlearn.tasks.spans import placed_words
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from tests.unit.data.taking import make_config, taker

try:
    from contlearn.operations.suggestion_files import write_suggestions
except ImportError:  # one module wrote and chose
    write_suggestions = suggesting.write_suggestions

GUESS, RIGHT = "billing", "returns"
MANAGER = PluginManager(discover=False)
TOOL_KEYS = {"_input_hash": 1, "_task_hash": 2, "_session_id": None, "_view_id": "choice"}


def suggestion(text, prediction=None, **more):
    scores = {GUESS: 0.6, RIGHT: 0.4}
    return {
        "text": text,
        **more,
        "worth": 0.7,
        "uncertainty": 0.5,
        "novelty": 0.2,
        "prediction": prediction or {"label": GUESS, "confidence": 0.6, "scores": scores},
    }


def written(style, rows, fields=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        value = {"suggestions": rows, "version": 3}
        more = () if fields is None else (fields,)
        spans = any("entities" in row["prediction"] for row in rows)
        task = TokenClassification() if spans else TextClassification()
        write_suggestions(value, path, style, *more, task=task)
        return path.read_bytes().decode()


# -- what people do in the tools -------------------------------------------------------------------


def in_jsonl(text, actions):
    rows = [json.loads(line) for line in text.split("\n") if line]
    for row, action in zip(rows, actions, strict=True):
        if action == "answer":
            row["label"] = RIGHT
    return {"rows.jsonl": lines(rows)}


def in_csv(text, actions):
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for row, action in zip(rows, actions, strict=True):
        if action == "answer":
            row["label"] = RIGHT
    return {"rows.csv": sheet(rows)}


def in_label_studio(text, actions):
    tasks, few = json.loads(text), []
    for number, (task, action) in enumerate(zip(tasks, actions, strict=True)):
        task["id"], task["annotations"] = number, []
        guess = task["predictions"][0]["result"]
        right = [{**guess[0], "value": {"choices": [RIGHT]}}]
        # Whoever skips a task keeps what the model proposed.
        result = {"answer": right, "skip": guess}.get(action)
        if result is not None:
            annotation = {"id": number, "was_cancelled": action == "skip", "result": result}
            task["annotations"].append(annotation)
        if action == "answer":
            about = {"annotator": 1, "created_at": "2025-03-01", "lead_time": 2.5}
            few.append({"id": number, **task["data"], "label": RIGHT, **about})
    found = {"tasks.json": json.dumps(tasks, indent=2), "min.json": json.dumps(few)}
    return found | ({"export.csv": sheet(few)} if few else {})


def in_doccano(text, actions):
    rows = [json.loads(line) for line in text.split("\n") if line]
    for number, (row, action) in enumerate(zip(rows, actions, strict=True)):
        row |= {"id": number, "Comments": []}
        if action == "answer":
            row["label"] = [RIGHT]
    return {"all.jsonl": lines(rows)}


def in_prodigy(text, actions):
    rows = [json.loads(line) for line in text.split("\n") if line]
    words = {"answer": "accept", "skip": "ignore", "reject": "reject"}
    for row, action in zip(rows, actions, strict=True):
        if action in words:
            row |= {**TOOL_KEYS, "answer": words[action]}
        if action == "answer":
            row["accept"] = [RIGHT]
    return {"annotations.jsonl": lines(rows)}


TOOLS = {
    "jsonl": in_jsonl,
    "csv": in_csv,
    "label-studio": in_label_studio,
    "doccano": in_doccano,
    "prodigy": in_prodigy,
}


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sheet(rows):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys(), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def taken(name, content, task=None, **data):
    """Read a file as an ingest does: what is accepted, and the reasons of what is not."""
    task = task or TextClassification()
    config = make_config(task=task.name, **data)
    checker, accepted, refused = RowChecker(task, config), [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        needed = task.needed_fields(config.data.field_names())
        for parsed in find_parser(MANAGER, name).rows(path, config.data.limits, needed):
            try:
                checked = checker.check(parsed.row) if parsed.row is not None else None
            except RowProblem as problem:
                refused.append(problem.reason)
            else:
                assert checked is not None, parsed.problem
                accepted.append((checked.inputs, checked.target))
    return accepted, refused


# -- the property ----------------------------------------------------------------------------------


def is_fit(text):
    try:
        clean_text(text, "text")
    except RowProblem:
        return False
    return True


STARTS = ("", "=", "+", "-", "@", "'", "''", "'=", "\t", "\r", "\n", '"', ",", "＝", "sep=;")
TEXTS = st.builds(
    str.__add__,
    st.sampled_from(STARTS),
    st.one_of(
        st.text(st.sampled_from("ab ,;|'\"\n\r\t=@é\u0301❤️\u200dñ٣"), max_size=12),
        st.text(st.characters(codec="utf-8"), max_size=12),
    ),
).filter(is_fit)
ACTIONS = st.sampled_from(["answer", "answer", "leave", "skip", "reject"])


@pytest.mark.parametrize("style", TOOLS)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(TEXTS, ACTIONS), min_size=1, max_size=6, unique_by=lambda row: normal_text(row[0])
    )
)
def test_exactly_the_answered_rows_come_back_with_equal_texts(style, rows):
    texts, actions = zip(*rows, strict=True)
    text = written(style, [suggestion(one) for one in texts])
    answered = [({"text": one}, RIGHT) for one, action in rows if action == "answer"]
    untouched = taken("as-written." + EXTENSIONS[style], text)
    assert untouched == ([], ["not-answered"] * len(rows))
    for name, content in TOOLS[style](text, actions).items():
        accepted, refused = taken(name, content)
        assert accepted == answered, name
        assert set(refused) <= {"not-answered", "rejected-answer"}
        if name not in ("min.json", "export.csv"):
            assert len(refused) == len(rows) - len(answered)


EXTENSIONS = {
    "jsonl": "jsonl",
    "csv": "csv",
    "label-studio": "json",
    "doccano": "jsonl",
    "prodigy": "jsonl",
}


# -- tags ------------------------------------------------------------------------------------------

WORDS = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(is_fit),
    min_size=1,
    max_size=6,
)


def tagged(style, text, rows):
    """Answer each row: its first word is a place, whatever the model said."""
    if style == "label-studio":
        tasks = json.loads(text)
        for task, (_, words) in zip(tasks, rows, strict=True):
            value = {"start": words[0][1], "end": words[0][2], "labels": ["place"]}
            result = [{"value": value, "type": "labels", "from_name": "label", "to_name": "text"}]
            task["annotations"] = [{"was_cancelled": False, "result": result}]
        return json.dumps(tasks)
    found = [json.loads(line) for line in text.split("\n") if line]
    for row, (_, words) in zip(found, rows, strict=True):
        start, end = words[0][1:]
        if style == "jsonl":
            row["tags"] = ["B-place"] + ["O"] * (len(words) - 1)
        elif style == "doccano":
            row["label"] = [[start, end, "place"]]
        else:
            row |= {"answer": "accept", "spans": [{"start": start, "end": end, "label": "place"}]}
    return lines(found)


@pytest.mark.parametrize("style", ["jsonl", "label-studio", "doccano", "prodigy"])
@settings(max_examples=40, deadline=None)
@given(sentences=st.lists(WORDS, min_size=1, max_size=3), is_bare=st.booleans())
def test_tags_come_back_on_the_words_that_were_suggested(style, sentences, is_bare):
    suggestions, rows = [], []
    for sentence in sentences:
        text = " ".join(sentence)
        inputs = {"text": text} if is_bare else {"tokens": tuple(sentence)}
        words = placed_words(inputs)
        if not words or not all(is_fit(word) for word, _, _ in words):
            return
        entity = {"start": words[-1][1], "end": words[-1][2], "type": "day", "text": words[-1][0]}
        prediction = {"entities": [entity | {"score": 0.5}]}
        more = {} if is_bare else {"tokens": list(sentence)}
        suggestions.append(suggestion(text, prediction, **more))
        rows.append((text, words))
    text, task = written(style, suggestions), TokenClassification()
    name = "rows." + EXTENSIONS[style]
    assert taken(name, text, task) == ([], ["not-answered"] * len(rows))
    accepted, refused = taken(name, tagged(style, text, rows), task)
    assert refused == []
    assert [(inputs["tokens"], target) for inputs, target in accepted] == [
        (tuple(word for word, _, _ in words), ("B-place", *["O"] * (len(words) - 1)))
        for _, words in rows
    ]


def test_sheet_for_tags_is_refused_because_no_answer_could_come_back(tmp_path):
    value = {"suggestions": [suggestion("to Rome", {"entities": []})], "version": 1}
    with pytest.raises(UsageError, match="csv cannot hold answers of the task"):
        write_suggestions(value, tmp_path / "out.csv", "csv", task=TokenClassification())
    assert not (tmp_path / "out.csv").exists()


# -- single forms ----------------------------------------------------------------------------------


def test_answers_return_under_the_names_of_the_configuration():
    names = {"text": "body", "label": "topic"}
    for style, tool in (("prodigy", in_prodigy), ("doccano", in_doccano)):
        text = written(style, [suggestion("=a body")], FieldNames(**names))
        (content,) = tool(text, ["answer"]).values()
        assert taken("rows.jsonl", content, **names) == ([({"text": "=a body"}, RIGHT)], [])
    text = written("csv", [suggestion("=a body")], FieldNames(**names))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    content = sheet([row | {"topic": RIGHT}])
    assert taken("rows.csv", content, **names) == ([({"text": "=a body"}, RIGHT)], [])


def test_sheet_that_was_saved_as_xlsx_gives_the_texts_back(tmp_path):
    texts = ["=1+1 came", "'tis here", "plain"]
    rows = list(csv.reader(io.StringIO(written("csv", [suggestion(t) for t in texts]))))
    book = openpyxl.Workbook()
    for number, row in enumerate(rows):
        book.active.append([*row[:1], row[1] or RIGHT, *row[2:]] if number else row)
    book.save(tmp_path / "rows.xlsx")
    accepted, refused = taken("rows.xlsx", (tmp_path / "rows.xlsx").read_bytes())
    assert [inputs["text"] for inputs, _ in accepted] == texts
    assert refused == []


def test_guess_stands_nowhere_as_a_label():
    for style in TOOLS:
        text = written(style, [suggestion("hello there")])
        rows = json.loads(text) if style == "label-studio" else None
        if style == "csv":
            rows = list(csv.DictReader(io.StringIO(text)))
        for row in rows or [json.loads(line) for line in text.splitlines()]:
            assert row.get("label") in (None, "", []), style


@pytest.mark.parametrize("answer", ["reject", "ignore", None])
def test_suggestion_of_a_former_version_is_no_answer(answer):
    row = {"text": "a text", "label": GUESS, "meta": {"worth": 0.5, "version": 2}}
    row |= {} if answer is None else {"answer": answer}
    accepted, refused = taken("rows.jsonl", lines([row]))
    assert accepted == []
    assert refused == ["rejected-answer" if answer == "reject" else "not-answered"]
    assert taken("rows.jsonl", lines([row | {"answer": "accept"}]))[0] == [
        ({"text": "a text"}, GUESS)
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_what_a_person_refused_or_passed_over_is_not_learnt(answer, suffix):
    rows = [
        {"text": "a text", "label": "spam", "answer": answer},
        {"text": "b text", "label": "ham", "answer": "accept"},
    ]
    content = lines(rows) if suffix == "jsonl" else sheet(rows)
    accepted, refused = taken(f"rows.{suffix}", content)
    assert accepted == [({"text": "b text"}, "ham")]
    assert refused == ["rejected-answer" if answer == "reject" else "not-answered"]


def test_annotators_who_disagree_are_not_decided_between():
    def task(*choices):
        results = [[{"type": "choices", "value": {"choices": list(one)}}] for one in choices]
        annotations = [{"result": result} for result in results]
        return {"data": {"text": " ".join(map(str, choices))}, "annotations": annotations}

    rows = [task(["a"], ["a"]), task(["a"], ["b"]), task(["a", "b"])]
    accepted, refused = taken("tasks.json", json.dumps(rows))
    assert [target for _, target in accepted] == ["a"]
    assert refused == ["conflict", "wrong-type"]


@pytest.mark.parametrize("status", ["Default", "Discarded", "draft", "pending"])
def test_record_without_a_submitted_answer_is_refused(status):
    row = {"text": "a", "label": "x", "status": status, "prediction_agent": "m"}
    assert taken("rows.jsonl", lines([row])) == ([], ["not-answered"])
    # A status of somebody's own says nothing of answers.
    assert taken("rows.jsonl", lines([{"text": "a", "label": "x", "status": status}]))[1] == []


def test_reason_is_kept_with_the_refused_row_and_it_can_be_answered_there(tmp_path):
    from contlearn.data.quarantine.corrected import ingest_corrected
    from contlearn.data.quarantine.looking import export_quarantine

    with taker(tmp_path / "ws") as taking:
        path = taking.workspace.root / "rows.csv"
        path.write_text(written("csv", [suggestion("=1+1 came"), suggestion("'=2 came")]))
        (file,) = taking.ingest(path)["files"]
        assert (file["accepted"], file["rejected"], file["reason"]) == (0, 2, "not-answered")
        export_quarantine(taking.workspace, tmp_path / "sheet.csv")
        with (tmp_path / "sheet.csv").open(newline="") as source:
            rows = list(csv.DictReader(source))
        for row in rows:
            row["label"] = RIGHT
        with (tmp_path / "back.csv").open("w", newline="") as target:
            target.write(sheet(rows))
        ingest_corrected(taking.intake(), tmp_path / "back.csv")
        assert [record.inputs["text"] for record in taking.records()] == ["=1+1 came", "'=2 came"]
        assert taking.quarantine() == []
