"""Duplicates, conflicts and sides: compared with a plain reading of the rules, row by row."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contlearn.data.intake.checking import group_hash, target_digest, text_digest
from contlearn.data.intake.known import KnownRecord
from contlearn.data.intake.resolve import (
    ACCEPT,
    CONFLICT,
    DIGEST,
    DUPLICATE,
    assign_sides,
    resolve,
)
from contlearn.data.intake.split import held_out_by_hash, union_groups

NONE = np.zeros(0, dtype=np.int64)


def digests_of(rows):
    return np.frombuffer(b"".join(text_digest(t) + target_digest(y) for t, y in rows), dtype=DIGEST)


def known_as(text, label, *, held_out=False, forgotten=False):
    record_id = (text_digest(text) + target_digest(label)).hex()
    return KnownRecord(record_id, held_out, forgotten, label)


def plain_rules(rows, known, policy):
    """What becomes of each row, decided the slow way."""
    labels = defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    there = defaultdict(set)
    for text, label in known:
        there[text].add(label)
    last = dict(rows)
    seen, answer = set(), []
    for text, label in rows:
        if label in there[text]:
            answer.append(DUPLICATE)
        elif (
            there[text] and (policy == "quarantine" or (policy == "newest" and label != last[text]))
        ) or (
            len(labels[text]) > 1
            and (policy == "quarantine" or (policy == "newest" and label != last[text]))
        ):
            answer.append(CONFLICT)
        elif (text, label) in seen:
            answer.append(DUPLICATE)
        else:
            answer.append(ACCEPT)
        seen.add((text, label))
    return answer


ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=25)


@given(
    ROWS,
    st.lists(st.tuples(st.sampled_from("abcd"), st.just("x")), max_size=3, unique=True),
    st.sampled_from(["quarantine", "newest", "all"]),
)
def test_each_row_is_decided_as_the_rules_say(rows, known, policy):
    found = resolve(
        digests_of(rows),
        [known_as(t, y) for t, y in known if any(t == r[0] for r in rows)],
        policy=policy,
        held_out=False,
    )
    assert found.action.tolist() == plain_rules(rows, known, policy)


def test_texts_that_share_their_first_bytes_are_told_apart():
    # Nobody finds such texts by chance: the digests are made by hand.
    parts = [(7, 1, 1), (7, 2, 1), (7, 1, 2), (7, 2, 1), (3, 9, 1), (7, 1, 1)]
    digests = np.array(parts, dtype=DIGEST)
    found = resolve(digests, [], policy="quarantine", held_out=False)
    assert found.action.tolist() == [CONFLICT, ACCEPT, CONFLICT, DUPLICATE, ACCEPT, CONFLICT]


def test_newest_label_supersedes_the_record_that_is_known():
    found = resolve(
        digests_of([("a", "y"), ("a", "z")]), [known_as("a", "x")], policy="newest", held_out=False
    )
    assert found.action.tolist() == [CONFLICT, ACCEPT]
    assert found.superseded == [known_as("a", "x").record_id]


def test_forgotten_text_does_not_come_back_under_any_label():
    known = [known_as("a", "x", forgotten=True)]
    for policy in ("quarantine", "newest", "all"):
        found = resolve(digests_of([("a", "x"), ("a", "y")]), known, policy=policy, held_out=False)
        assert set(found.action.tolist()) <= {DUPLICATE, CONFLICT}
        assert ACCEPT not in found.action


def test_held_out_file_does_not_take_what_is_known_for_training():
    known = [known_as("a", "x"), known_as("b", "x", held_out=True)]
    found = resolve(
        digests_of([("a", "x"), ("b", "x"), ("c", "x")]), known, policy="all", held_out=True
    )
    assert found.action.tolist() == [CONFLICT, DUPLICATE, ACCEPT]


def sides(rows, groups=(), known_groups=None, near=(NONE, NONE, NONE), ratio=0.3, **options):
    digests = digests_of(rows)
    found = resolve(digests, options.pop("known", []), policy="all", held_out=False)
    names = [group_hash(name) for name in dict.fromkeys(g for g in groups if g)]
    numbers = np.array(
        [names.index(group_hash(g)) if g else -1 for g in (groups or [None] * len(rows))]
    )
    held_out = assign_sides(
        digests,
        found,
        numbers,
        names,
        {group_hash(k): v for k, v in (known_groups or {}).items()},
        near,
        seed=5,
        held_out_ratio=ratio,
        held_out=False,
    )
    return found, held_out


TEXTS = [(f"text {i}", "x") for i in range(400)]


def test_side_follows_from_the_text_alone():
    _, whole = sides(TEXTS)
    _, reverse = sides(TEXTS[::-1])
    assert whole.tolist() == reverse[::-1].tolist()
    assert 0.2 < whole.mean() < 0.4


def test_group_stands_on_one_side():
    groups = [f"customer {i % 40}" for i in range(len(TEXTS))]
    _, held_out = sides(TEXTS, groups)
    for number in range(40):
        assert len(set(held_out[number::40].tolist())) == 1
    assert 0 < held_out.sum() < len(TEXTS)


def test_known_group_keeps_its_side():
    groups = ["one"] * 5 + ["two"] * 5
    _, held_out = sides(TEXTS[:10], groups, {"one": True, "two": False})
    assert held_out.tolist() == [True] * 5 + [False] * 5


def test_text_under_several_labels_stands_on_one_side():
    rows = [(f"text {i // 2}", "xy"[i % 2]) for i in range(200)]
    _, held_out = sides(rows)
    assert (held_out[::2] == held_out[1::2]).all()


def test_near_duplicate_takes_the_side_of_its_neighbour():
    first, second = np.arange(0, 300, 3), np.arange(1, 300, 3)
    _, held_out = sides(TEXTS, near=(first, second, np.array([2, 5])))
    _, alone = sides(TEXTS)
    assert (held_out[first] == held_out[second]).all()
    assert (held_out[first] == alone[first]).all()
    assert held_out[[2, 5]].all()


def test_known_text_keeps_its_side_under_a_new_label():
    known = [known_as("text 0", "z", held_out=True), known_as("text 1", "z", held_out=False)]
    _, held_out = sides(TEXTS[:2], known=known)
    assert held_out.tolist() == [True, False]


def test_row_torn_between_its_text_and_its_group_is_a_conflict():
    known = [known_as("text 0", "z", held_out=True)]
    found, _ = sides(TEXTS[:2], ["g", "g"], {"g": False}, known=known)
    assert found.action.tolist() == [CONFLICT, ACCEPT]
    assert "different sides" in found.messages[0]


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.5])
def test_share_of_held_out_keys_is_the_ratio(ratio):
    keys = np.random.default_rng(1).integers(0, 2**63, 50_000).astype(np.uint64)
    share = held_out_by_hash(keys, seed=3, held_out_ratio=ratio).mean()
    assert abs(share - ratio) < 0.006


def test_another_seed_gives_another_split():
    keys = np.arange(1000, dtype=np.uint64)
    one, two = (held_out_by_hash(keys, seed=s, held_out_ratio=0.5) for s in (1, 2))
    assert 350 < (one == two).sum() < 650


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_the_connected_parts(edges):
    left = np.array([a for a, _ in edges], dtype=np.int64)
    right = np.array([b for _, b in edges], dtype=np.int64)
    found = union_groups(30, [(left, right)])
    parent = list(range(30))
    for _ in edges:
        for a, b in edges:
            low = min(parent[a], parent[b])
            parent = [low if p in (parent[a], parent[b]) else p for p in parent]
    assert found.tolist() == parent
