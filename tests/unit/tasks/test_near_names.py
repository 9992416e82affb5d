from __future__ import annotations

import itertools
import json
import os
import random
import string
from pathlib import Path

import pytest

from contlearn.tasks.near_names import NearNames, is_near

FOLDER = Path(os.environ.get("CONTLEARN_DATA", ""), "intent").parent
SETS = sorted(FOLDER.rglob("labels.json")) if os.environ.get("CONTLEARN_DATA") else []


def changed_once(name: str, chance: random.Random) -> str:
    """Drop, add or change a letter, or let two change places."""
    at = chance.randrange(len(name))
    letter = chance.choice(string.ascii_lowercase)
    return chance.choice(
        [
            name[:at] + name[at + 1 :],
            name[:at] + letter + name[at:],
            name[:at] + letter + name[at + 1 :],
            name[:at] + name[at : at + 2][::-1] + name[at + 2 :],
        ]
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_index_finds_exactly_the_names_that_are_near(seed):
    chance = random.Random(seed)
    words = ["card", "arrival", "transfer", "no", "time", "refund", "top", "up", "billing", "2"]
    names = {
        "_".join(chance.sample(words, chance.randint(1, 3))).replace("_", chance.choice("_- "))
        for _ in range(60)
    }
    # Sorted, for the order of a set is another in each process.
    names |= {changed_once(name, chance) for name in sorted(names) for _ in range(4)}
    places = NearNames(names)
    for name in names:
        assert places.find(name) == sorted(other for other in names if is_near(name, other))


def test_slip_is_found_behind_a_sign_at_the_beginning_too():
    assert is_near("2_no_refudn", "_2no_refund")
    assert NearNames(["_2no_refund"]).find("2_no_refudn") == ["_2no_refund"]


def test_nearness_does_not_depend_on_the_order():
    chance = random.Random(11)
    for _ in range(2_000):
        name = "".join(chance.choices("abcAB_ -1é", k=chance.randint(1, 12)))
        other = changed_once(name, chance)
        assert is_near(name, other) == is_near(other, name)


@pytest.mark.skipif(not SETS, reason="needs CONTLEARN_DATA")
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.parent.name)
def test_no_label_of_a_real_set_is_near_another(path):
    value = json.loads(path.read_text())
    names = [str(name) for name in value]
    near = [pair for pair in itertools.combinations(names, 2) if is_near(*pair)]
    assert near == []
