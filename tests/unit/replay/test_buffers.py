from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from contlearn.errors import RegistryError
from contlearn.replay.class_balanced import ClassBalancedBuffer
from contlearn.replay.reservoir import ReservoirBuffer
from contlearn.types import Exemplar

BOTH = [ClassBalancedBuffer, ReservoirBuffer]


class Script:
    """A generator that answers from a list, so that every outcome can be played through."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []

    def integers(self, high):
        self.asked.append(high)
        return self.answers.pop(0) if self.answers else 0


def exemplar(name, key="a", size=1):
    return Exemplar(record_id=name, key=key, size_bytes=size)


def made(kind, records, *, seed=0, **bounds):
    buffer = kind(**{"capacity_records": 10, "capacity_bytes": 1000, "seed": seed, **bounds})
    buffer.add(records)
    return buffer


def all_outcomes(kind, records, **bounds):
    """Play through every answer the generator could give; weigh each kept set by its chance."""
    chances = Counter()

    def play(answers, chance):
        buffer = kind(**{"capacity_records": 10, "capacity_bytes": 1000, **bounds})
        script = buffer._random = Script(answers)
        buffer.add(records)
        if len(script.asked) > len(answers):
            high = script.asked[len(answers)]
            for answer in range(high):
                play([*answers, answer], chance / high)
        else:
            chances[frozenset(item.record_id for item in buffer.items())] += chance

    play([], 1.0)
    return chances


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_keeps_each_of_three_records_equally_often_with_one_place(kind):
    chances = all_outcomes(kind, [exemplar(n) for n in "xyz"], capacity_records=1)
    assert chances == pytest.approx({frozenset(n): 1 / 3 for n in "xyz"})


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_keeps_each_pair_of_four_records_equally_often_with_two_places(kind):
    chances = all_outcomes(kind, [exemplar(n) for n in "wxyz"], capacity_records=2)
    pairs = [frozenset(pair) for pair in itertools.combinations("wxyz", 2)]
    assert chances == pytest.approx(dict.fromkeys(pairs, 1 / 6))


def test_class_balanced_is_uniform_within_a_label_that_was_cut_by_another():
    records = [exemplar(n) for n in "wxyz"] + [exemplar("1", "b"), exemplar("2", "b")]
    chances = all_outcomes(ClassBalancedBuffer, records, capacity_records=4)
    kept = Counter()
    for names, chance in chances.items():
        assert len(names & set("wxyz")) == 2
        assert names >= {"1", "2"}
        for name in names:
            kept[name] += chance
    assert [kept[n] for n in "wxyz"] == pytest.approx([0.5] * 4)


def test_class_balanced_is_uniform_when_a_cut_label_goes_on():
    records = [exemplar(n) for n in "xyz"] + [exemplar("1", "b"), exemplar("w")]
    chances = all_outcomes(ClassBalancedBuffer, records, capacity_records=3)
    kept = Counter()
    for names, chance in chances.items():
        assert "1" in names
        for name in names:
            kept[name] += chance
    assert [kept[n] for n in "wxyz"] == pytest.approx([0.5] * 4)


def test_class_balanced_shares_equally_among_very_unequal_labels():
    records = [exemplar(f"a{n}") for n in range(500)] + [exemplar(f"b{n}", "b") for n in range(7)]
    counts = Counter(item.key for item in made(ClassBalancedBuffer, records).items())
    assert counts == {"a": 5, "b": 5}


def test_class_balanced_gives_what_a_rare_label_leaves_to_others():
    records = [exemplar(f"a{n}") for n in range(50)] + [exemplar("b", "b")]
    counts = Counter(item.key for item in made(ClassBalancedBuffer, records).items())
    assert counts == {"a": 9, "b": 1}


def test_reservoir_shares_by_how_often_a_label_came():
    total = Counter()
    for seed in range(60):
        records = [exemplar(f"a{n}") for n in range(80)] + [
            exemplar(f"b{n}", "b") for n in range(20)
        ]
        total.update(item.key for item in made(ReservoirBuffer, records, seed=seed).items())
    assert 0.1 < total["b"] / 600 < 0.3


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_never_exceeds_records_or_bytes_after_any_record(kind):
    buffer = kind(capacity_records=7, capacity_bytes=40, seed=3)
    for n in range(300):
        buffer.add([exemplar(str(n), "abc"[n % 3 if n % 7 else 0], 1 + n % 11)])
        assert len(buffer) <= 7
        assert buffer.size_bytes == sum(item.size_bytes for item in buffer.items()) <= 40


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_refuses_a_record_larger_than_itself_and_keeps_the_rest(kind):
    buffer = made(kind, [exemplar("x")], capacity_bytes=5)
    buffer.add([exemplar("huge", size=6)])
    assert [item.record_id for item in buffer.items()] == ["x"]


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_holds_at_most_so_many_of_each_label(kind):
    records = [exemplar(f"{key}{n}", key) for n in range(20) for key in "ab"]
    counts = Counter(i.key for i in made(kind, records, records_per_label=3).items())
    assert counts == {"a": 3, "b": 3}


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_keeps_a_record_once_when_it_is_offered_twice(kind):
    buffer = made(kind, [exemplar("x"), exemplar("x")])
    assert len(buffer) == 1
    assert buffer.seen == 1


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_takes_out_what_is_to_be_forgotten(kind):
    buffer = made(kind, [exemplar(n) for n in "xyz"])
    assert buffer.remove(["x", "z", "never there"]) == 2
    assert [item.record_id for item in buffer.items()] == ["y"]
    assert buffer.size_bytes == 1


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_with_no_capacity_keeps_nothing(kind):
    assert made(kind, [exemplar("x")], capacity_records=0).items() == ()


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_goes_on_after_save_and_load_as_if_nothing_had_happened(kind):
    first = [exemplar(f"f{n}", "ab"[n % 2]) for n in range(60)]
    second = [exemplar(f"s{n}", "abc"[n % 3]) for n in range(60)]
    straight = made(kind, first)
    restored = kind(capacity_records=10, capacity_bytes=1000, seed=99)
    restored.load_state(json.loads(json.dumps(straight.state())))
    assert restored.items() == straight.items()
    straight.add(second)
    restored.add(second)
    assert restored.items() == straight.items()
    assert restored.state() == straight.state()


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_is_cut_when_it_is_loaded_into_a_smaller_one(kind):
    smaller = kind(capacity_records=4, capacity_bytes=1000)
    smaller.load_state(made(kind, [exemplar(str(n), "ab"[n % 2]) for n in range(40)]).state())
    assert len(smaller) == 4


def test_buffer_takes_over_what_another_policy_kept():
    state = made(ReservoirBuffer, [exemplar(str(n), "ab"[n % 2]) for n in range(8)]).state()
    other = ClassBalancedBuffer(capacity_records=4, capacity_bytes=1000)
    other.load_state(state)
    assert Counter(item.key for item in other.items()) == {"a": 2, "b": 2}


def test_buffer_refuses_a_state_of_another_format():
    state = {**made(ReservoirBuffer, []).state(), "format_version": 99}
    with pytest.raises(RegistryError, match="format version 99, not 1"):
        made(ReservoirBuffer, []).load_state(state)


@pytest.mark.parametrize("kind", BOTH)
def test_buffer_gives_the_same_for_the_same_seed(kind):
    records = [exemplar(str(n), "ab"[n % 2]) for n in range(100)]
    assert made(kind, records, seed=5).items() == made(kind, records, seed=5).items()
    assert made(kind, records, seed=5).items() != made(kind, records, seed=6).items()
