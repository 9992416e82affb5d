from __future__ import annotations

import json

import pytest

from contlearn.papers.journal import JournalRecord

AT = "2030-01-01T00:00:00+00:00"
LATER = "2030-01-01T00:00:09+00:00"


def test_record_holds_what_a_line_says_and_gives_back_every_key():
    value = {
        "number": 7, "at": LATER, "event": "promote", "epoch": 3, "version": 5, "previous": 4,
        "actor": "ada", "reason": "better", "force": True, "below": 2, "since": AT,
        "last_alias": 120, "last_delete": None, "prev": "ab", "of tomorrow": [1],
    }  # fmt: skip
    record = JournalRecord.from_line(json.dumps(value).encode())
    assert (record.number, record.event, record.version, record.epoch) == (7, "promote", 5, 3)
    assert (record.previous, record.below, record.at, record.since) == (4, 2, LATER, AT)
    assert (record.actor, record.reason, record.force) == ("ada", "better", True)
    assert (record.links, record.prev) == ({"alias": 120, "delete": None}, "ab")
    assert record.to_json() == value


def test_record_of_an_earlier_contlearn_has_neither_links_nor_a_time_of_its_own_to_be_live():
    record = JournalRecord.from_json(
        {"number": 1, "at": AT, "event": "promote", "version": 1, "epoch": 1}
    )
    assert (record.links, record.since, record.previous, record.below) == ({}, AT, None, None)


def test_record_of_a_note_may_call_anything_a_version():
    note = {"number": 1, "at": AT, "event": "audit", "version": "the first"}
    assert JournalRecord.from_json(note).version == 0


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "is no JSON object"),
        ({"number": "1", "event": "register", "version": 1}, "has no number and no at"),
        ({"number": 1, "at": AT, "event": "register"}, "has no version"),
        ({"number": 1, "at": AT, "event": "promote", "epoch": 1}, "has no version"),
        ({"number": 1, "at": AT, "event": "alias", "alias": "blue"}, "has no aliases"),
    ],
)
def test_record_that_is_damaged_says_what_it_lacks(value, problem):
    with pytest.raises(ValueError, match=problem):
        JournalRecord.from_json(value)
