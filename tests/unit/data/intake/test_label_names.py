"""New names of labels that are close to known ones: refused, kept, or let in by hand."""

from __future__ import annotations

import pytest

from tests.unit.data.taking import make_config, taker


def rows_of(label: str, number: int, *, start: int = 0) -> list[dict]:
    return [{"text": f"{label} sentence {i}", "label": label} for i in range(start, start + number)]


@pytest.fixture
def taking(tmp_path):
    with taker(tmp_path / "ws") as made:
        yield made


def bring(taking, name, *groups, **options):
    path = taking.write(name, [row for group in groups for row in group])
    return taking.ingest(path, **options)


def labels_of(taking) -> set[str]:
    return {row.key for row in taking.rows()}


def test_new_label_one_letter_off_a_common_one_is_quarantined(taking):
    bring(taking, "first.jsonl", rows_of("card_arrival", 40), rows_of("refund", 40))
    report = bring(taking, "second.jsonl", rows_of("card_arival", 3), rows_of("top_up", 2))
    assert (report["accepted"], report["rejected"]) == (2, 3)
    assert labels_of(taking) == {"card_arrival", "refund", "top_up"}
    (problem,) = report["files"][0]["problems"]
    assert (problem["code"], problem["count"]) == ("unknown-label", 3)
    assert "'card_arrival' (40 rows)" in problem["examples"][0]["message"]
    assert {row["reason"] for row in taking.quarantine()} == {"unknown-label"}
    assert "--accept card_arival=card_arrival" in taking.quarantine()[0]["hint"]
    (near,) = report["files"][0]["near_labels"]
    assert (near["label"], near["near"], near["rows"]) == ("card_arival", "card_arrival", 3)
    assert report["files"][0]["new_labels"] == ["top_up"]


@pytest.mark.parametrize(
    "label", ["Card-Arrival", "card arrival", "cardArrival", "CARD_ARRIVAL", "card_arrivla"]
)
def test_other_ways_to_write_a_common_label_found_no_class(taking, label):
    bring(taking, "first.jsonl", rows_of("card_arrival", 40))
    assert bring(taking, "second.jsonl", rows_of(label, 2))["rejected"] == 2
    assert labels_of(taking) == {"card_arrival"}


@pytest.mark.parametrize(
    ("known", "new"),
    [
        ("label_1", "label_2"),
        ("label_1", "label_11"),
        ("Q3_2024", "Q4_2024"),
        ("version 1-1", "version 11"),
        ("no", "on"),
        ("time", "timer"),
        ("grade A", "grade B"),
        ("groupa", "groupb"),
        ("A", "A-"),
        ("employer", "employee"),
        ("legal", "illegal"),
        ("import_goods", "export_goods"),
        ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)"),
        ("transfer_in", "transfer_on"),
        ("信用卡还款", "信用卡欠款"),
    ],
)
def test_names_that_differ_in_more_than_a_slip_are_labels_of_their_own(taking, known, new):
    bring(taking, "first.jsonl", rows_of(known, 40))
    assert bring(taking, "second.jsonl", rows_of(new, 1))["rejected"] == 0
    assert labels_of(taking) == {known, new}


def test_of_two_near_labels_in_one_file_the_rare_one_waits_whichever_comes_first(taking):
    report = bring(taking, "one.jsonl", rows_of("shiping", 2), rows_of("shipping", 30))
    assert (report["accepted"], report["rejected"]) == (30, 2)
    assert labels_of(taking) == {"shipping"}
    assert [row["line_number"] for row in taking.quarantine()] == [1, 2]


def test_of_two_near_labels_of_like_size_both_stay_and_it_is_said(taking):
    report = bring(taking, "one.jsonl", rows_of("shiping", 20), rows_of("shipping", 30))
    assert report["rejected"] == 0
    assert labels_of(taking) == {"shipping", "shiping"}
    told = {w["code"]: w["examples"][0]["message"] for w in report["files"][0]["warnings"]}
    assert "'shiping' (20 rows) is close to 'shipping' (30 rows)" in told["near-kept"]


def test_of_labels_that_look_alike_in_one_file_the_common_one_stays(taking):
    report = bring(taking, "one.jsonl", rows_of("Billing", 1), rows_of("billing", 9))
    assert (report["accepted"], report["rejected"]) == (9, 1)
    assert labels_of(taking) == {"billing"}


def test_a_label_near_one_with_few_rows_is_taken_and_told(taking):
    bring(taking, "first.jsonl", rows_of("shipping", 4))
    report = bring(taking, "second.jsonl", rows_of("shiping", 1))
    assert report["accepted"] == 1
    assert "near-kept" in {w["code"] for w in report["files"][0]["warnings"]}


def test_a_known_label_that_was_the_slip_is_told_when_the_right_one_comes(taking):
    bring(taking, "first.jsonl", rows_of("shiping", 6))
    report = bring(taking, "second.jsonl", rows_of("shipping", 30))
    assert report["accepted"] == 30
    told = {w["code"]: w["examples"][0]["message"] for w in report["files"][0]["warnings"]}
    assert "'shipping' (30 rows) is close to 'shiping' (6 rows)" in told["near-kept"]


def test_a_near_label_waits_however_its_rows_arrive(taking):
    bring(taking, "first.jsonl", rows_of("card_arrival", 40))
    for number in range(6):
        bring(taking, f"{number}.jsonl", rows_of("card_arival", 1, start=number))
    assert labels_of(taking) == {"card_arrival"}
    assert len(taking.quarantine()) == 6


def test_rows_of_the_inbox_are_judged_alike(taking):
    bring(taking, "first.jsonl", rows_of("card_arrival", 40))
    taking.write("late.jsonl", rows_of("card_arival", 2), folder=taking.workspace.inbox)
    taking.write("late.jsonl.ready", [], folder=taking.workspace.inbox)
    report = taking.scan()
    assert report["rejected"] == 2
    assert labels_of(taking) == {"card_arrival"}


def test_entity_types_are_judged_alike(tmp_path):
    def row(kind, number):
        return {"tokens": ["go", f"town{number}"], "tags": ["O", f"B-{kind}"]}

    with taker(tmp_path / "ws", make_config(task="token-classification")) as taking:
        bring(taking, "first.jsonl", [row("location", n) for n in range(30)])
        report = bring(taking, "second.jsonl", [row("locaton", 50), row("facility", 51)])
        assert (report["accepted"], report["rejected"]) == (1, 1)
        assert report["files"][0]["problems"][0]["code"] == "bad-tag"
        assert labels_of(taking) == {"location", "facility"}


def test_many_new_labels_at_once_are_judged_alike(taking):
    """Beyond a few new names an index finds the near ones."""
    names = [f"{first}_{last}" for first in ("paris", "milan", "tokyo") for last in "abcdefgh"]
    bring(taking, "first.jsonl", rows_of("card_arrival", 40))
    groups = [rows_of(name, 1) for name in (*names, "card_arival")]
    report = bring(taking, "second.jsonl", *groups)
    assert (report["accepted"], report["rejected"]) == (24, 1)
    assert labels_of(taking) == {*names, "card_arrival"}


def test_what_is_meant_can_be_named_in_the_configuration(taking):
    bring(taking, "first.jsonl", rows_of("customer_account", 40))
    both = make_config(labels=("customer_accounts",), allow_new_labels=True)
    assert bring(taking, "a.jsonl", rows_of("customer_accounts", 1), config=both)["rejected"] == 0
    warn = make_config(near_labels="warn")
    assert bring(taking, "b.jsonl", rows_of("customer_acount", 1), config=warn)["rejected"] == 0
    slip = make_config(label_aliases={"custmer_account": "customer_account"})
    assert bring(taking, "c.jsonl", rows_of("custmer_account", 1), config=slip)["accepted"] == 1
    assert labels_of(taking) == {"customer_account", "customer_accounts", "customer_acount"}


def test_an_alias_holds_for_a_name_that_was_a_label_before(taking):
    bring(taking, "first.jsonl", rows_of("shiping", 3))
    config = make_config(label_aliases={"shiping": "shipping"})
    bring(taking, "second.jsonl", rows_of("shiping", 2, start=10), config=config)
    assert sorted(row.key for row in taking.rows()) == ["shiping"] * 3 + ["shipping"] * 2
