"""The real program where a rule finds updates not worth the change: learnt with what comes next."""

from __future__ import annotations

import signal
import sqlite3

import pytest

from tests.integration.conftest import Program
from tests.texts import classified

pytestmark = pytest.mark.slow

# Says what stands in a file beside it, after the rules of the house have judged; kills its process
# at an event that another file names.
RULE = """
import os, pathlib, signal
from pydantic import BaseModel, ConfigDict
from contlearn.plugins import hookimpl
from contlearn.types import RuleOutcome

HERE = pathlib.Path(__file__).parent


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Told:
    name = "told"
    summary = "finds a challenger worth the change when it is told to"
    Options = Options

    def __init__(self, options):
        self.options = options

    def judge(self, evidence):
        worth = (HERE / "worth.txt").read_text() == "yes"
        rows = sum(len(one.targets) for one in evidence.sets if one.is_new)
        return (RuleOutcome(rule="told", passed=worth, keeps=not worth, measured=float(rows),
                            required=None, message="It would change next to nothing."),)


@hookimpl
def contlearn_register_gate_rules():
    return [Told]


@hookimpl
def contlearn_on_event(event):
    wanted = (HERE / "kill-at.txt").read_text()
    if wanted and wanted == f"{event.kind}:{event.fields.get('state', '')}":
        (HERE / "kill-at.txt").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
"""
RULES = 'rules = ["no-regression", "no-harm", "gain", "floor", "told"]'


class Telling(Program):
    """The program with the rule, and what it is told."""

    def run(self, *arguments, code=0):
        return super().run("--plugins-dir", self.root.parent / "rules", *arguments, code=code)

    def tell(self, *, worth, kill_at=""):
        folder = self.root.parent / "rules"
        folder.mkdir(exist_ok=True)
        (folder / "told.py").write_text(RULE)
        (folder / "worth.txt").write_text("yes" if worth else "no")
        (folder / "kill-at.txt").write_text(kill_at)

    def states(self):
        """Count records by state, side and tries."""
        query = "select state, split, attempts, count(*) from records group by 1, 2, 3"
        with sqlite3.connect(self.root / "state/catalog.sqlite") as database:
            return {row[:3]: row[3] for row in database.execute(query)}

    def held_out(self, cycle):
        query = "select record_id from cycle_records where cycle_id = ? and role = 'held_out'"
        with sqlite3.connect(self.root / "state/catalog.sqlite") as database:
            return {row[0] for row in database.execute(query, (cycle,))}


@pytest.fixture
def telling(promoted):
    """Version 2 is served; garden and returns wait to be learnt."""
    program = Telling(promoted.root)
    config = program.root / "contlearn.toml"
    config.write_text(config.read_text().replace("worth_confidence = 0.5", RULES))
    program.drop("kept.jsonl", classified(["returns"], 40, seed=7))
    return program


def test_what_was_kept_is_learnt_with_what_comes_next(telling):
    program = telling
    program.tell(worth=False)
    first = program.json("update")
    assert (first["outcome"], first["version"]) == ("kept", 3)
    (told,) = [r for r in first["reasons"] if r["rule"] == "told"]
    assert (told["passed"], told["keeps"]) == (False, True)
    assert not any("keeps" in r for r in first["reasons"] if r["rule"] != "told")
    status = program.json("status")
    kept = status["kept_records"]
    assert (status["champion"]["version"], status["pending_records"]) == (2, kept)
    assert first["message"] == (
        f"It would change next to nothing. The {kept} records stay and are learnt with what comes "
        "next; nothing is counted against them."
    )
    mine = {key: number for key, number in program.states().items() if key[0] == "kept"}
    new_rows = mine["kept", "held_out", 0]
    assert mine == {("kept", "train", 0): kept, ("kept", "held_out", 0): new_rows}
    assert f"{kept} records are kept for the next update" in program.run("status")
    assert "not worth it" in program.run("show", 3)
    assert "It was not worth the change" in (program.root / "versions/3/report.html").read_text()
    assert "| told | not worth it |" in (program.root / "versions/3/MODEL_CARD.md").read_text()
    assert f'contlearn_kept_records{{model="tickets"}} {kept}.0' in program.run("metrics")
    assert 'contlearn_runs_total{model="tickets",outcome="kept"} 1.0' in program.run("metrics")

    # By hand they are looked at again, which is counted.
    again = program.run("update")
    assert "kept" in again
    assert "`contlearn promote 4` serves it all the same, without --force" in " ".join(
        again.split()
    )
    cycle = program.json("history")["cycles"][0]
    assert (cycle["outcome"], cycle["numbers"]["looks"]) == ("kept", 2)
    assert program.json("show", 4)["looks"] == 2

    # With others they are learnt, and the held-out rows of both are measured as new, each once.
    program.tell(worth=True)
    program.drop("fresh.jsonl", classified(["billing", "shipping"], 30, seed=8))
    last = program.json("update")
    assert (last["outcome"], last["version"]) == ("promoted", 5), last["reasons"]
    assert {state for state, _, _ in program.states()} == {"learnt"}
    both = program.held_out(last["cycle"])
    assert program.held_out(first["cycle"]) < both
    (told,) = [r for r in last["reasons"] if r["rule"] == "told"]
    assert told["measured"] == len(both) > new_rows
    shown = program.json("show", 5)
    assert len(shown["lineage"]["experiences"]) == 3
    evaluation = program.json("evaluate")
    assert len(evaluation["accuracy_matrix"]) == 3
    assert (shown["decision"]["verdict"], shown["looks"]) == ("promoted", 3)

    # One of before can still be served: nothing spoke against it.
    program.run("promote", 3, "--reason", "to compare")
    assert program.json("status")["champion"]["version"] == 3
    assert program.json("verify")["ok"]


@pytest.mark.parametrize("point", ["cycle-state:deciding", "cycle-ended:"])
def test_killed_while_it_was_kept_the_same_run_ends_as_one_look(telling, point):
    program = telling
    program.tell(worth=False, kill_at=point)
    program.run("update", "--run-key", "night", code=-signal.SIGKILL)
    answer = program.json("update", "--run-key", "night")
    assert (answer["outcome"], answer["version"]) == ("kept", 3)
    assert answer["repeated"] is (point == "cycle-ended:")
    (cycle, *_) = program.json("history")["cycles"]
    assert (cycle["state"], cycle["numbers"]["looks"]) == ("kept", 1)
    assert {key[2] for key in program.states() if key[0] == "kept"} == {0}
    status = program.json("status")
    assert (status["versions"], status["running_cycle"]) == (3, None)
