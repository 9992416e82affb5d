"""After any sequence of what can befall records, every part holds exactly those that count.

The truth is kept beside: a few lines that say what each act means. Planning, learning (the real
strategy, sums and buffer over a tiny frozen encoder), settling, promotion and rollback are the real
ones; only export and gate are scripted.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contlearn.catalog.schema import records as record_table
from contlearn.cycle.changes import promote_version, roll_back
from contlearn.cycle.child import _Child
from contlearn.cycle.held_out import read_held_out
from contlearn.cycle.material import read_material
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.data.forgetting import forget_records
from contlearn.data.intake.checking import target_digest, text_digest
from contlearn.data.label_quality import out_of_sample_ids
from contlearn.data.store import read_records
from contlearn.errors import RegistryError
from contlearn.modeling.checkpoint import load_checkpoint
from contlearn.monitoring.label_drift import learnt_labels
from contlearn.operations.ingest import ingest_files
from contlearn.operations.records import hold, list_labels, release
from contlearn.operations.status import read_status
from contlearn.tasks.rows import normal_text
from contlearn.testing import FakeClock
from contlearn.training.encoded import encode_records
from contlearn.training.scoring import features_of
from contlearn.training.state import DurableState, buffered_ids
from contlearn.types import LabelSpace
from contlearn.workspace import read_json, write_json_atomic
from tests.scripted import ScriptedContext, make_workspace
from tests.texts import FILLER, TOPICS

LABELS = ("billing", "garden")
TEXTS = [
    f"{word} {filler}"
    for (_, words), filler in itertools.product(list(TOPICS.items())[:2], FILLER[:4])
    for word in words[:2]
]
MORE = """
[model]
task = "text-classification"
base = "{base}"
max_tokens = 32
[data]
held_out_ratio = 0.4
[training.strategy_options]
fine_tune = "never"
[replay]
capacity_records = 1000
records_per_label = 0
[retention]
versions = 1000
[gate]
reserve_rows = 1000
[monitoring]
doubt_records = 0
"""


@dataclass
class Entry:
    """A record as the truth knows it."""

    text: str
    label: str
    state: str = "pending"
    attempts: int = 0
    cycle: str | None = None

    @property
    def record_id(self) -> str:
        return (text_digest(normal_text(self.text)) + target_digest(self.label)).hex()

    @property
    def counts(self) -> bool:
        return self.state not in ("superseded", "forgotten")

    @property
    def is_open(self) -> bool:
        return self.state in ("pending", "refused", "kept")


@dataclass
class Truth:
    """What each act means, in words of one line."""

    entries: list[Entry] = field(default_factory=list)
    planned: dict[str, list[Entry]] = field(default_factory=dict)
    lineages: dict[int | None, list[str]] = field(default_factory=lambda: {None: []})
    champion: int | None = None
    held_out: dict[str, bool] = field(default_factory=dict)

    def of(self, text: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.text == text]

    def live(self, text: str) -> Entry | None:
        return next((entry for entry in self.of(text) if entry.counts), None)

    def take(self, text: str, label: str, *, newest: bool, bring_back: bool) -> None:
        forgotten = {entry.label for entry in self.of(text) if entry.state == "forgotten"}
        live = self.live(text)
        if live is not None and live.label == label:
            return
        if forgotten and not bring_back and (live is None or label in forgotten):
            return
        if live is not None and not newest:
            return
        if live is not None:
            live.state = "superseded"
        self.entries.append(Entry(text, label))

    def forget(self, text: str) -> None:
        for entry in self.of(text):
            if entry.counts or entry.state == "superseded":
                entry.state = "forgotten"

    def settle(self, cycle: str, *, passed: bool | None) -> None:
        """Settle what was refused, promoted, or not worth the change (None)."""
        for entry in self.planned[cycle]:
            if passed and entry.counts:
                entry.state, entry.cycle = "learnt", cycle
            elif passed is None and entry.is_open:
                entry.state = "kept"
            elif passed is False and entry.is_open:
                entry.attempts += 1
                entry.state = "refused" if entry.attempts < 2 else "held"

    def change(self, champion: int | None, *, held: bool) -> None:
        before, after = self.lineages[self.champion], self.lineages[champion]
        for entry in self.entries:
            if entry.state == "learnt" and entry.cycle not in after:
                entry.state, entry.attempts = ("held" if held else "pending"), 0
        for cycle in after:
            if cycle not in before:
                self.settle(cycle, passed=True)
        self.champion = champion

    def learnt(self, *, held_out: bool) -> list[Entry]:
        """What the champion's lineage was planned with, of this side, and what counts of it."""
        return [
            entry
            for cycle in self.lineages[self.champion]
            for entry in self.planned[cycle]
            if entry.counts and self.held_out[entry.text] == held_out
        ]


class Rehearsal(UpdateCycle):
    """A cycle whose child works in this process; the gate does what it is told."""

    passes: bool | None = True

    def _run_stages(self, cycle, folder, settlement):
        child = _Child(folder)
        child.folder.version.mkdir(parents=True, exist_ok=True)
        training = child.train()
        child.catalog.close()
        version = folder.version
        (version / "onnx").mkdir()
        (version / "onnx" / "model.onnx").write_bytes(cycle.cycle_id.encode())
        (version / "onnx" / "tokenizer.json").write_text("{}")
        outcome = {"rule": "gain", "passed": bool(self.passes), "measured": 1, "required": 0}
        if self.passes is None:
            outcome["keeps"] = True
        decision = {
            "promoted": bool(self.passes),
            "outcomes": [{**outcome, "message": "scripted"}],
        }
        write_json_atomic(version / "decision.json", decision)
        labels = training["labels"]
        graph = {
            "inputs": ["input_ids", "attention_mask"],
            "outputs": {"logits": [None, len(labels)], "projection": [None, 64]},
        }
        facts = {
            "model": {"task": "text-classification", "labels": labels, "max_tokens": 32,
                      "temperature": 1.0, "precision": "fp32", "processor": [], "base": "tiny",
                      "pooling": "mean"},
            "lineage": {"parent": child.job.champion, "cycle": cycle.cycle_id,
                        "strategy": "replay", "records": training["records_new"],
                        "experiences": [*child.job.lineage, cycle.cycle_id]},
            "training": training,
            "metrics": {"accuracy": 0.9},
            "export": {"label_agreement": 1.0},
            "golden": {"graph": graph},
        }  # fmt: skip
        result = {"facts": facts, "decision": decision, "numbers": {}}
        write_json_atomic(folder.result, result)


class Play:
    """A workspace and the truth beside it."""

    def __init__(self, root, base) -> None:
        make_workspace(root, MORE.format(base=base))
        self.context = ScriptedContext.open(root, clock=FakeClock())
        self.truth = Truth()
        self.files = itertools.count()

    def act(self, act: tuple) -> None:
        kind, *arguments = act
        getattr(self, kind)(*arguments)
        self.check()

    # -- acts ------------------------------------------------------------------------------------

    def ingest(self, text, label, newest=False, bring_back=False):
        path = self.context.workspace.root / f"{next(self.files)}.jsonl"
        # A content that came before would be known as a file: each is another one.
        path.write_text(json.dumps({"text": text, "label": label, "n": path.stem}) + "\n")
        ingest_files(
            self.context,
            [path],
            on_conflict="newest" if newest else None,
            bring_back_forgotten=bring_back,
        )
        self.truth.take(text, label, newest=newest, bring_back=bring_back)
        with self.context.catalog.read() as connection:
            for record_id, split in connection.execute(
                sa.select(record_table.c.record_id, record_table.c.split)
            ):
                for entry in self.truth.entries:
                    if entry.record_id == record_id:
                        self.truth.held_out[entry.text] = split == "held_out"

    def hold(self, text):
        entry = self.truth.live(text)
        if entry is None:
            return
        hold(self.context, [entry.record_id], reason="to look at")
        if entry.is_open:
            entry.state = "held"

    def release(self):
        release(self.context, None, reason="looked at")
        for entry in self.truth.entries:
            if entry.state == "held":
                entry.state, entry.attempts = "pending", 0

    def forget(self, text):
        entry = self.truth.live(text)
        if entry is None:
            return
        context = self.context
        parts = (context.workspace, context.config, context.catalog, context.manager)
        forget_records(*parts, [entry.record_id], reason="asked")
        self.truth.forget(text)

    def update(self, passes):
        truth = self.truth
        wanted = [entry for entry in truth.entries if entry.is_open]
        cycle = Rehearsal(self.context, scan=lambda *_, **__: {})
        cycle.passes = passes
        self.context.clock.sleep(60)
        result = cycle.run_once()
        if not any(not truth.held_out[entry.text] for entry in wanted):
            assert result.outcome == "nothing-to-do"
            return
        outcomes = {True: "promoted", False: "refused", None: "kept"}
        assert result.outcome == outcomes[passes], result
        truth.planned[result.cycle] = wanted
        truth.lineages[result.version] = [*truth.lineages[truth.champion], result.cycle]
        truth.settle(result.cycle, passed=passes)
        if passes:
            truth.champion = result.version
            self.check_remembered()

    def rollback(self, held):
        try:
            change = roll_back(self.context, hold=held, actor="test", reason="worse")
        except RegistryError:
            return  # there is nothing to go back to
        self.truth.change(change.champion, held=held)

    def promote(self, which):
        numbers = [number for number in self.truth.lineages if number is not None]
        if not numbers:
            return
        number = numbers[which % len(numbers)]
        promote_version(self.context, number, actor="test", reason="by hand", force=True)
        self.truth.change(number, held=False)

    # -- what must hold --------------------------------------------------------------------------

    def check(self) -> None:
        context, truth = self.context, self.truth
        side = truth.held_out
        states = Counter((entry.state, side[entry.text]) for entry in truth.entries)
        status = read_status(context)
        names = ("pending", "kept", "held", "learnt")
        found = {name: status[f"{name}_records"] for name in names}
        assert found == {
            "pending": sum(states[one, False] for one in ("pending", "refused", "kept")),
            "kept": states["kept", False],
            "held": states["held", False] + states["held", True],
            "learnt": states["learnt", False],
        }
        assert status["held_out_records"] == sum(
            states[state, True] for state in ("learnt", "pending", "refused", "kept")
        )
        assert status["superseded_records"] == sum(e.state == "superseded" for e in truth.entries)
        assert status["forgotten_records"] == sum(e.state == "forgotten" for e in truth.entries)
        lineage = truth.lineages[truth.champion]
        history = read_material(
            context.workspace,
            context.catalog,
            cycle_id="none",
            lineage=lineage,
            champion=None,
            reads_history=True,
        ).history
        assert sorted(r.record_id for r in history) == ids(truth.learnt(held_out=False))
        reserve = read_held_out(context.workspace, context.catalog, lineage, capacity=1000)
        assert sorted(r.record_id for one in reserve for r in one.records) == ids(
            truth.learnt(held_out=True)
        )
        counting = Counter(e.label for e in truth.entries if e.counts)
        shown = {
            row["label"]: row["train"] + row["held_out"] for row in list_labels(context)["labels"]
        }
        assert {name: number for name, number in shown.items() if number} == counting
        with context.catalog.read() as connection:
            assert learnt_labels(connection) == Counter(
                e.label for e in truth.entries if e.state == "learnt"
            )
        judged = set(out_of_sample_ids(context.catalog, limit=1000))
        assert judged == {
            e.record_id for e in truth.entries if e.counts and (e.is_open or side[e.text])
        }

    def check_remembered(self) -> None:
        """The champion's buffer and sums hold what its lineage learnt and what counts."""
        context, truth = self.context, self.truth
        folder = context.registry.get(truth.champion).path
        wanted = ids(truth.learnt(held_out=False))
        assert sorted(buffered_ids(folder / "state")) == wanted
        space = LabelSpace(tuple(read_json(folder / "manifest.json")["model"]["labels"]))
        sums = DurableState.load(folder / "state", space).statistics
        items = read_records(context.workspace, context.catalog, wanted)
        checkpoint = load_checkpoint(folder / "checkpoint")
        data = encode_records(items, checkpoint, task=context.task, space=space, max_tokens=32)
        features = features_of(checkpoint.model, data)
        targets = data.flat.numpy()
        assert sums.counts.tolist() == np.bincount(targets, minlength=len(space)).tolist()
        for position in range(len(space)):
            mine = features[targets == position].sum(axis=0)
            np.testing.assert_allclose(sums.sums[position], mine, atol=1e-3)
        np.testing.assert_allclose(sums.gram, features.T @ features, atol=1e-2)


def ids(entries):
    return sorted(entry.record_id for entry in entries)


text = st.sampled_from(TEXTS)
label = st.sampled_from(LABELS)
ACT = st.one_of(
    st.tuples(st.just("ingest"), text, label),
    st.tuples(st.just("ingest"), text, label, st.just(True)),
    st.tuples(st.just("ingest"), text, label, st.booleans(), st.just(True)),
    st.tuples(st.just("hold"), text),
    st.tuples(st.just("release")),
    st.tuples(st.just("forget"), text),
    st.tuples(st.just("update"), st.sampled_from([True, True, False, None])),
    st.tuples(st.just("rollback"), st.booleans()),
    st.tuples(st.just("promote"), st.integers(0, 5)),
)


def begun(play: Play) -> Play:
    """Some texts of both labels, learnt; one more that waits."""
    for number, text in enumerate(TEXTS[:-1]):
        play.ingest(text, LABELS[number % 2])
    play.act(("update", True))
    play.act(("ingest", TEXTS[-1], LABELS[0]))
    return play


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACT, min_size=6, max_size=14))
def test_every_part_holds_exactly_the_records_that_count(tmp_path_factory, tiny_model, acts):
    play = begun(Play(tmp_path_factory.mktemp("play"), tiny_model))
    try:
        for act in acts:
            play.act(act)
        play.act(("update", True))
    finally:
        play.context.close()


def test_kept_records_are_looked_at_corrected_forgotten_and_learnt_in_the_end(tmp_path, tiny_model):
    play = begun(Play(tmp_path / "ws", tiny_model))
    waiting = [entry.text for entry in play.truth.entries if entry.is_open]
    try:
        for number in range(4):
            waiting.append(f"something new of number {number}")
            play.act(("ingest", waiting[-1], "garden"))
        play.act(("update", None))
        play.act(("ingest", waiting[-1], "billing", True))
        play.act(("forget", waiting[-2]))
        play.act(("hold", waiting[-3]))
        play.act(("update", None))
        play.act(("rollback", False))
        play.act(("release",))
        play.act(("update", True))
        play.act(("rollback", True))
        play.act(("promote", 1))  # the first that was kept
        play.act(("promote", 3))
    finally:
        play.context.close()


def withdrawn_in(play):
    """Say how the newest champion's sums lost what counts no longer."""
    folder = play.context.registry.get(play.truth.champion).path
    return read_json(folder / "manifest.json")["training"]["notes"].get("withdrawn")


def trained(play, label):
    """Give a learnt training record of a label."""
    return next(e for e in play.truth.learnt(held_out=False) if e.label == label)


def test_sums_are_taken_apart_where_the_text_is_there_and_made_again_where_not(
    tmp_path, tiny_model
):
    play = begun(Play(tmp_path / "ws", tiny_model))
    try:
        play.act(("update", True))
        assert withdrawn_in(play) is None
        play.act(("ingest", trained(play, "garden").text, "billing", True))
        play.act(("update", True))
        assert withdrawn_in(play) == {"records": 1, "sums": "subtracted"}
        play.act(("forget", trained(play, "garden").text))
        play.act(("ingest", "something new", "garden"))
        play.act(("update", True))
        assert withdrawn_in(play) == {"records": 1, "sums": "computed again"}
    finally:
        play.context.close()


def test_corrected_row_leaves_the_reserve_and_the_history_at_once(tmp_path, tiny_model):
    play = begun(Play(tmp_path / "ws", tiny_model))
    try:
        for held_out in (True, False):
            for entry in play.truth.learnt(held_out=held_out)[:3]:
                other = LABELS[entry.label == LABELS[0]]
                play.act(("ingest", entry.text, other, True))
        play.act(("release",))
    finally:
        play.context.close()
