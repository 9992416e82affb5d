from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contlearn.errors import RegistryError
from contlearn.registry.journal import Journal
from contlearn.testing import FakeClock
from contlearn.workspace import FileOperations


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "events.jsonl", files=FileOperations(), clock=FakeClock())


def test_journal_numbers_and_chains_its_records(journal):
    for version in (1, 2, 3):
        journal.append("register", version=version)
    records = list(journal.records())
    assert [(r.number, r.event, r.version) for r in records] == [
        (1, "register", 1),
        (2, "register", 2),
        (3, "register", 3),
    ]
    assert records[0].prev == "0" * 64
    assert journal.verify() == []


def test_journal_without_a_file_is_empty_and_whole(journal):
    assert (list(journal.records()), journal.verify(), journal.repair()) == ([], [], None)
    assert journal.find_last("register") is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda lines: [lines[0], lines[1].replace(b'"version": 2', b'"version": 9'), lines[2]],
            "line 2 was changed or removed",
        ),
        (lambda lines: [lines[0], lines[2]], "line 1 was changed or removed"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 was changed or removed"),
        (
            lambda lines: [lines[0], b"{}\n", lines[2]],
            "line 2 is damaged: it has no number and no at and no event",
        ),
        (lambda lines: [lines[0], b"2\n", lines[2]], "line 2 is damaged: it is no JSON object"),
        (lambda lines: [lines[0], b"{\n", lines[2]], "line 2 is damaged: it is not JSON"),
        (
            lambda lines: [lines[0], lines[1].replace(b"prev", b"pre"), lines[2]],
            "line 2 is damaged: it has no prev",
        ),
    ],
)
def test_journal_names_the_line_that_was_tampered_with(journal, change, problem):
    for version in (1, 2, 3):
        journal.append("register", version=version)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(change(lines)))
    assert any(problem in found for found in journal.verify())


def test_journal_cuts_a_torn_line_off_and_keeps_it_beside(journal):
    journal.append("register", version=1)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"number": 2, "ev')
    assert len(list(journal.records())) == 1
    assert journal.verify() == ["events.jsonl line 2 is torn"]
    journal.append("register", version=2)
    assert journal.verify() == []
    assert [r.number for r in journal.records()] == [1, 2]
    (torn,) = journal.path.parent.glob("events.torn-*")
    assert torn.read_bytes() == b'{"number": 2, "ev'


def test_journal_refuses_a_line_that_is_not_json(journal):
    journal.append("register", version=1)
    journal.path.write_bytes(b"nonsense\n" + journal.path.read_bytes())
    with pytest.raises(RegistryError, match=r"not JSON: 'nonsense'\. .*line 1"):
        list(journal.records())


def test_journal_says_what_a_damaged_line_lacks_and_appends_nothing_to_it(journal):
    journal.append("promote", version=1, epoch=1)
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"epoch": 1, ', b""))
    before = journal.path.read_bytes()
    for deed in (
        lambda: journal.append("register", version=2),
        lambda: next(journal.back("promote")),
        lambda: journal.find_last("promote", version=1),
        lambda: journal.get(1),
    ):
        with pytest.raises(RegistryError) as caught:
            deed()
        assert caught.value.what.startswith(
            """A line of the journal has no epoch: '{"number": 1, "at": """
        )
        assert caught.value.where == str(journal.path)
        assert str(caught.value.hint).startswith("`contlearn verify` names the line.")
    assert journal.verify() == ["events.jsonl line 1 is damaged: it has no epoch"]
    assert journal.path.read_bytes() == before


def test_journal_finds_the_newest_record_with_all_fields(journal):
    journal.append("register", version=1, cycle="a")
    journal.append("promote", version=1, epoch=1, reason='"event": "register", "version": 12')
    journal.append("register", version=12, cycle="b")
    assert journal.find_last("register").version == 12
    assert journal.find_last("register", version=1).cycle == "a"
    assert journal.find_last("register", cycle="b").version == 12
    assert journal.find_last("register", version=2) is None
    assert [journal.get(n).event for n in (1, 2, 3)] == ["register", "promote", "register"]
    assert (journal.get(0), journal.get(4)) == (None, None)


def test_journal_gives_its_records_back_newest_first(journal):
    assert list(journal.back()) == []
    for version in range(1, 6):
        journal.append("register", version=version)
        journal.append("intent", version=version, epoch=version, reason='"event": "promote", ')
    journal.append("promote", version=5, epoch=5)
    assert [r.number for r in journal.back()] == list(range(11, 0, -1))
    assert [r.version for r in journal.back("register", "promote")] == [5, 5, 4, 3, 2, 1]
    assert (journal.count("register"), journal.count("promote"), journal.count("alias")) == (
        5,
        1,
        0,
    )


@pytest.mark.parametrize("torn", [b"", b'{"number": 401, "ev', b"x" * 200_000])
def test_journal_is_read_backwards_over_the_borders_of_its_blocks(journal, torn):
    for version in range(400):
        journal.append("register", version=version, note="x" * (170_000 if version == 200 else 700))
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [r.version for r in journal.back()] == list(range(399, -1, -1))
    for version in (399, 201, 200, 199, 0):
        assert journal.find_last("register", version=version).number == version + 1
        assert journal.get(version + 1).version == version
    assert journal.count("register") == 400


def test_journal_links_rare_events_and_searches_where_links_are_missing_or_wrong(journal):
    assert list(journal.linked("alias")) == []
    for number in range(1, 10):
        kind = "alias" if number in (2, 5, 6) else "register"
        journal.append(kind, version=number, aliases={})
    assert [r.version for r in journal.linked("alias")] == [6, 5, 2]
    assert list(journal.linked("delete")) == []
    assert [r.links["delete"] for r in journal.records()] == [None] * 9
    lines = journal.path.read_bytes().splitlines(keepends=True)
    assert journal.get(9).links["alias"] == sum(map(len, lines[:5]))

    def changed(change):
        kept = [json.loads(line) for line in lines]
        for record in kept:
            change(record)
        journal.path.write_bytes(b"".join(json.dumps(r).encode() + b"\n" for r in kept))
        return [r.version for r in journal.linked("alias")]

    assert changed(lambda record: record.pop("last_alias")) == [6, 5, 2]
    journal.append("register", version=10)  # the first with links finds the newest once
    newest = journal.get(10).links["alias"]
    assert journal.path.read_bytes()[newest:].startswith(b'{"number": 6, ')
    assert changed(lambda record: record.update(last_alias=7)) == [6, 5, 2]
    assert changed(lambda record: record.update(last_alias=10**9)) == [6, 5, 2]
    assert changed(lambda record: record["number"] == 9 and record.update(last_alias=0)) == [
        6,
        5,
        2,
    ]


def test_journal_reads_no_more_than_it_needs_for_the_newest_records(journal):
    journal.append("register", version=1)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(b"nonsense\n" * 100_000 + whole)
    assert next(journal.back()).version == 1
    with pytest.raises(RegistryError, match="not JSON: 'nonsense'"):
        list(journal.back())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=20))
def test_journal_gives_back_any_reason_as_it_was(tmp_path_factory, reasons):
    journal = Journal(
        tmp_path_factory.mktemp("j") / "events.jsonl", files=FileOperations(), clock=FakeClock()
    )
    for reason in reasons:
        journal.append("promote", version=1, epoch=1, reason=reason)
    assert [r.reason for r in journal.records()] == reasons
    assert journal.verify() == []
    if reasons:
        assert journal.find_last("promote", reason=reasons[-1]).number == len(reasons)


def test_journal_reads_only_the_end_before_appending(journal):
    for version in range(300):
        journal.append("register", version=version, note="x" * 500)
    assert journal.verify() == []
    assert json.loads(journal.path.read_bytes().splitlines()[-1])["number"] == 300
