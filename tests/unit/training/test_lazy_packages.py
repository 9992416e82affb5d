"""avalanche behind our bridge is avalanche: nothing is missing, nothing is another's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def output_of(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_every_package_holds_what_it_holds_without_us():
    names = "tests.unit.training.avalanche_names"
    ours = json.loads(output_of("-m", names, "ours"))
    theirs = json.loads(output_of("-m", names, "theirs"))
    assert [way for way, works in ours["ways"].items() if not works] == []
    assert ours["strange"] == []
    # Whoever imported avalanche before us keeps it as it was.
    assert theirs["kept"]
    assert len(theirs["packages"]) > 30
    assert ours["packages"] == theirs["packages"]


@pytest.mark.slow
def test_a_name_that_is_nowhere_is_an_error():
    code = (
        "import contlearn.training.avalanche.bridge, avalanche.evaluation as e\n"
        "try:\n    e.NoSuchThing\nexcept AttributeError as error:\n    print(error)"
    )
    expected = "module 'avalanche.evaluation' has no attribute 'NoSuchThing'"
    assert output_of("-W", "ignore", "-c", code) == expected
