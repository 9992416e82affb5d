"""The real program and the best proven version of its lineage: carried on, gone back to, reset."""

from __future__ import annotations

import json

import pytest

from contlearn.papers.scores import read_scores
from tests.texts import classified

pytestmark = pytest.mark.slow

# Few rows are enough here, so that the rule judges: what a real margin needs is simulated.
GATE = """margin = 0.9
min_evidence_rows = 5
rules = ["no-regression", "no-harm", "gain", "no-erosion"]
"""


@pytest.fixture
def watched(promoted):
    """Version 2 is served, learnt after version 1, which is the best proven one."""
    config = promoted.root / "contlearn.toml"
    text = config.read_text().replace("margin = 0.2\n", GATE)
    config.write_text(text.replace("worth_confidence = 0.5", ""))
    return promoted


def manifest(program, number):
    return json.loads((program.root / f"versions/{number}/manifest.json").read_text())


def learn(program, name, seed):
    program.drop(f"{name}.jsonl", classified([name], 40, seed=seed))
    answer = program.json("update")
    assert answer["outcome"] == "promoted", answer["reasons"]
    return answer


def test_best_version_is_carried_on_gone_back_to_and_reset(watched):
    program = watched
    assert manifest(program, 1)["lineage"]["anchor"] is None
    assert manifest(program, 2)["lineage"]["anchor"] == 1
    answer = learn(program, "returns", 7)
    (rule,) = [r for r in answer["reasons"] if r["rule"] == "no-erosion"]
    assert rule["passed"]
    assert "the best proven version 1 " in rule["message"]
    lineage = manifest(program, 3)["lineage"]
    assert (lineage["anchor"], lineage["against_anchor"]["version"]) == (1, 1)
    assert lineage["against_anchor"]["counts"] is True

    # On rows of the first experience version 1 stands, on those of the second who first learnt it.
    scores = {number: read_scores(program.root / f"versions/{number}") for number in (1, 2, 3)}
    first, second, new = scores[3].sets
    assert first.anchor.targets == scores[1].sets[0].challenger.targets
    assert second.anchor.targets == scores[2].sets[1].challenger.targets
    assert new.anchor is None

    status = program.json("status")["champion"]["best"]
    assert (status["version"], status["metric"]) == (1, "accuracy")
    assert status["rows"] == len(first.targets) + len(second.targets)
    assert "the best proven version 1" in program.run("status")
    assert 'best_proven_version{model="tickets"} 1.0' in program.run("metrics")
    shown = program.json("anchor", "show")
    assert (shown["champion"], shown["version"], shown["looks"]) == (3, 1, 1)

    assert "needs a reason" in program.json("anchor", "reset", code=2)["error"]
    assert program.json("anchor", "reset", "--reason", "new rules")["previous"] == 1
    assert program.json("status")["champion"]["best"]["version"] == 3
    assert "new rules" in program.run("history")
    learn(program, "billing", 8)
    lineage = manifest(program, 4)["lineage"]
    assert (lineage["anchor"], lineage["against_anchor"]["look"]) == (3, 1)

    # Going back goes back to what was best then, and a forgotten row is counted no more.
    program.run("rollback", "--to", 2, "--reason", "to see")
    assert program.json("status")["champion"]["best"]["version"] == 1
    forgotten = scores[2].sets[0].record_ids[0]
    program.run("data", "forget", forgotten, "--reason", "asked for")
    learn(program, "garden", 9)
    sets = read_scores(program.root / "versions/5").sets
    assert forgotten not in sets[0].record_ids
    assert len(sets[0].anchor.targets) == len(sets[0].record_ids)
    assert program.json("verify")["ok"]


def test_version_before_a_killed_process_is_compared_once(watched):
    """The same run, killed and begun again, is one look."""
    program = watched
    program.drop("returns.jsonl", classified(["returns"], 40, seed=7))
    plugin = program.root.parent / "rules" / "kill.py"
    plugin.parent.mkdir()
    plugin.write_text(
        "import os, pathlib, signal\n"
        "from contlearn.plugins import hookimpl\n"
        "@hookimpl\n"
        "def contlearn_on_event(event):\n"
        "    once = pathlib.Path(__file__).with_suffix('.done')\n"
        "    if event.kind == 'cycle-state' and event.fields['state'] == 'promoting':\n"
        "        if not once.exists():\n"
        "            once.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program.run("--plugins-dir", plugin.parent, "update", code=-9)
    assert program.json("--plugins-dir", plugin.parent, "update")["outcome"] == "promoted"
    assert program.json("anchor", "show")["looks"] == 1
