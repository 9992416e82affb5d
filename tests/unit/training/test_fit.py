from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from contlearn.config import ReplayConfig
from contlearn.errors import ConfigError, PluginError, TrainingError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import load_checkpoint
from contlearn.plugins import hookimpl
from contlearn.tasks.text_classification import TextClassification
from contlearn.training.encoded import encode_records
from contlearn.training.fit import fit_challenger, one_head
from contlearn.training.optim import LearningRateWarning
from contlearn.training.scoring import logits_of, metric_of
from contlearn.training.state import buffered_ids
from contlearn.types import Exemplar, LabelSpace
from tests.unit.training.conftest import Lineage, record, sentences, texts

pytestmark = pytest.mark.filterwarnings(
    # The tiny random model needs rates that no pretrained one should be given.
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)


def accuracy(lineage, records, version=None):
    checkpoint = load_checkpoint((version or lineage.champion) / "checkpoint")
    data = encode_records(
        records, checkpoint, task=lineage.task, space=checkpoint.model.labels, max_tokens=32
    )
    logits = logits_of(checkpoint.model, data)
    return metric_of(lineage.task, data, logits, checkpoint.model.labels)


def tensors(folder):
    model = load_checkpoint(folder / "checkpoint").model
    return {name: p.detach() for name, p in model.named_parameters()}


def test_fit_learns_a_first_experience_and_forgets_nothing_with_the_next(lineage):
    first, second = texts(["billing", "garden"], 80), texts(["music", "account"], 80)
    lineage.learn(first)
    assert accuracy(lineage, texts(["billing", "garden"], 20, seed=9)) > 0.9
    result = lineage.learn(second)
    assert result.label_space.names == ("billing", "garden", "account", "music")
    assert accuracy(lineage, texts(["billing", "garden"], 20, seed=9)) > 0.75
    assert accuracy(lineage, texts(["music", "account"], 20, seed=9)) > 0.75


@pytest.mark.slow
def test_naive_forgets_what_replay_keeps(lineage):
    first, second = texts(["billing", "garden"], 80), texts(["music", "account"], 80)
    lineage.learn(first)
    start, old = lineage.champion, texts(["billing", "garden"], 15, seed=9)
    kept = fit_challenger(_made(lineage.request(second, name="replay", champion=start)))
    naive = fit_challenger(
        _made(lineage.request(second, name="naive", champion=start, strategy="naive"))
    )
    assert accuracy(lineage, old, naive.checkpoint.parent) < 0.5
    assert accuracy(lineage, old, kept.checkpoint.parent) > 0.75


def _made(request):
    request.output.mkdir(parents=True, exist_ok=True)
    return request


def test_fit_gives_the_same_challenger_for_the_same_request(lineage):
    records = texts(["billing", "garden"], 15)
    results = [
        fit_challenger(_made(lineage.request(records, name=f"run{n}", champion=None)))
        for n in range(2)
    ]
    one, two = (tensors(result.checkpoint.parent) for result in results)
    assert all(torch.equal(one[name], two[name]) for name in one)
    states = [(r.state / "state.json").read_bytes() for r in results]
    assert states[0] == states[1]


def test_fit_never_changes_the_champion(lineage):
    lineage.learn(texts(["billing", "garden"], 15))
    files = {p: p.read_bytes() for p in lineage.champion.rglob("*") if p.is_file()}
    fit_challenger(_made(lineage.request(texts(["music"], 25), name="next")))
    assert {p: p.read_bytes() for p in lineage.champion.rglob("*") if p.is_file()} == files


def test_fit_keeps_ids_and_no_texts_in_the_state(lineage):
    records = texts(["billing", "garden"], 30)
    lineage.learn(records)
    ids = buffered_ids(lineage.champion / "state")
    assert len(ids) == 20
    assert set(ids) <= {r.record_id for r in records}
    state = (lineage.champion / "state" / "state.json").read_text()
    assert not [r for r in records if r.inputs["text"] in state]


def test_fit_goes_on_without_exemplars_that_were_forgotten(lineage):
    first = texts(["billing", "garden"], 30)
    lineage.learn(first)
    gone = buffered_ids(lineage.champion / "state")[:5]
    for name in gone:
        del lineage.known[name]
    lineage.learn(texts(["music"], 25))
    assert not set(gone) & set(buffered_ids(lineage.champion / "state"))


def test_fit_keeps_exemplars_that_became_held_out_from_training(lineage):
    lineage.learn(texts(["billing", "garden"], 30))
    moved = buffered_ids(lineage.champion / "state")[0]
    old = lineage.known[moved]
    lineage.known[moved] = record(old.inputs, old.target, split="held_out")
    assert lineage.known[moved].record_id == moved
    lineage.learn(texts(["music"], 25))
    assert moved not in buffered_ids(lineage.champion / "state")


def test_what_the_buffer_keeps_is_set_aside_so_that_choices_see_records_no_training_saw(
    lineage, monkeypatch
):
    from contlearn.training import session as sessions

    trained, aside = [], []
    fine_tune = sessions.FitSession.fine_tune

    def spied(self, **given):
        for seen, of in ((trained, "train"), (aside, "validation")):
            seen.append(
                [
                    {part.data.records[i].record_id for i in getattr(part, of)}
                    for part in self.parts()
                ]
            )
        return fine_tune(self, **given)

    monkeypatch.setattr(sessions.FitSession, "fine_tune", spied)
    for labels in (["billing", "garden"], ["music"], ["account"]):
        lineage.learn(texts(labels, 30))
        state = json.loads((lineage.champion / "state" / "state.json").read_text())
        unseen = set(state["unseen"])
        assert unseen
        assert unseen <= set(buffered_ids(lineage.champion / "state"))
        assert not unseen & {i for fit in trained for part in fit for i in part}
    assert len(aside) == 3
    for now, (_, old) in enumerate(aside[1:], start=1):
        assert old
        assert not old & {i for fit in trained[:now] for part in fit for i in part}


def test_fit_with_three_records_learns_them_all(lineage):
    few = texts(["billing", "garden", "music"], 1)
    result = lineage.learn(few)
    assert result.notes["choice"] == {
        "chosen": "frozen",
        "validation_rows": 0,
        "validation": {"frozen": 0.0},
    }
    assert accuracy(lineage, few) == 1.0


def test_fit_with_a_single_label_answers_it(lineage):
    only = texts(["billing"], 25)
    lineage.learn(only)
    assert accuracy(lineage, only) == 1.0


def test_fit_chooses_a_fine_tuned_encoder_only_if_it_does_better(lineage):
    notes = lineage.learn(texts(["billing", "garden"], 30)).notes["choice"]
    assert notes["validation_rows"] == 6
    best = max(notes["validation"].values())
    assert notes["validation"][notes["chosen"]] == best


def test_frozen_encoder_stays_bit_equal(lineage):
    lineage.learn(texts(["billing", "garden"], 30), strategy_options={"fine_tune": "never"})
    before = tensors(lineage.champion)
    lineage.learn(texts(["music"], 25), strategy_options={"fine_tune": "never"})
    after = tensors(lineage.champion)
    encoder = [name for name in before if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)


def test_confidences_are_calibrated_probabilities(lineage):
    lineage.learn(texts(["billing", "garden", "music"], 40))
    test = texts(["billing", "garden", "music"], 30, seed=9)
    checkpoint = load_checkpoint(lineage.champion / "checkpoint")
    data = encode_records(test, checkpoint, task=lineage.task, space=lineage.space, max_tokens=32)
    logits = logits_of(checkpoint.model, data)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1).mean()
    right = (logits.argmax(axis=1) == data.flat.numpy()).mean()
    assert confidence == pytest.approx(right, abs=0.15)


@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_every_method_trains_and_leaves_a_plain_encoder(lineage, method):
    result = lineage.learn(
        texts(["billing", "garden"], 20), method=method, strategy_options={"fine_tune": "always"}
    )
    assert 0 < result.trained_share <= 1
    assert (method == "full") == (result.trained_share == 1.0)
    names = {name for name in tensors(lineage.champion) if "lora" in name or "base_layer" in name}
    assert not names


@pytest.mark.parametrize("strategy", ["naive", "replay", "joint", "frozen-head"])
def test_every_strategy_learns_tags(tagger, strategy):
    result = tagger.learn(sentences(["city"], 60), strategy=strategy, epochs=1)
    assert result.label_space.names == ("O", "B-city", "I-city")
    assert np.isfinite(result.calibration.temperature)


def test_tags_of_a_new_type_grow_the_head_and_old_ones_stay(tagger):
    settings = {"epochs": 7, "learning_rate": 3e-3, "early_stopping_patience": 0}
    tagger.learn(sentences(["city"], 150), **settings)
    assert accuracy(tagger, sentences(["city"], 30, seed=5)) > 0.6
    result = tagger.learn(sentences(["artist"], 150), **settings)
    assert result.label_space.names[3:] == ("B-artist", "I-artist")
    assert accuracy(tagger, sentences(["artist"], 30, seed=5)) > 0.5


@pytest.mark.parametrize(("strategy", "least"), [("joint", 0.6), ("frozen-head", 0.4)])
def test_references_learn_history_and_new_records_together(lineage, strategy, least):
    first, second = texts(["billing", "garden"], 80), texts(["music"], 80)
    lineage.learn(first, strategy_options={"fine_tune": "never"})
    request = lineage.request(second, name="joint", strategy=strategy)
    result = fit_challenger(_made(_with(request, history=first)))
    test = texts(["billing", "garden", "music"], 10, seed=9)
    assert accuracy(lineage, test, result.checkpoint.parent) > least


def _with(request, **changes):
    import dataclasses

    return dataclasses.replace(request, **changes)


@pytest.mark.parametrize("name", ["lwf", "online-ewc"])
def test_regularizers_act_from_the_second_experience_on_also_after_a_restart(lineage, name):
    options = {"lwf": {"alpha": 50.0}, "online-ewc": {"strength": 1e6}}[name]
    regularizers = [{"name": name, **options}]
    # Fine-tuning alone, so that only the penalty can hold the encoder back.
    settings = {"strategy": "naive", "learning_rate": 1e-3, "epochs": 3, "validation_ratio": 0.0}
    lineage.learn(texts(["billing", "garden"], 20), regularizers=regularizers, **settings)
    start, second = lineage.champion, texts(["music", "account"], 20)
    free = fit_challenger(_made(lineage.request(second, name="free", champion=start, **settings)))
    held = fit_challenger(
        _made(
            lineage.request(
                second, name="held", champion=start, regularizers=regularizers, **settings
            )
        )
    )
    begin = tensors(start)

    def moved(result):
        now = tensors(result.checkpoint.parent)
        return sum(
            float(((now[n] - begin[n]) ** 2).sum()) for n in begin if n.startswith("encoder.")
        )

    assert moved(held) != moved(free)
    if name == "online-ewc":
        assert moved(held) < moved(free)
        assert {p.name for p in (held.state / "regularizers" / name).iterdir()} == {
            "anchors.safetensors",
            "importances.safetensors",
        }
    else:
        old = texts(["billing", "garden"], 15, seed=9)
        assert accuracy(lineage, old, held.checkpoint.parent) >= accuracy(
            lineage, old, free.checkpoint.parent
        )


def test_ewc_and_lwf_work_for_tags_too(tagger):
    regularizers = [{"name": "lwf"}, {"name": "online-ewc"}]
    tagger.learn(sentences(["city"], 40), epochs=1, regularizers=regularizers)
    result = tagger.learn(sentences(["artist"], 40), epochs=1, regularizers=regularizers)
    assert np.isfinite(result.notes["fine_tuning"]["history"][0]["loss"])


def test_ewc_refuses_a_method_that_begins_anew_each_time(lineage):
    with pytest.raises(ConfigError, match="begins with new ones in every update"):
        lineage.learn(
            texts(["billing", "garden"], 20),
            method="lora",
            strategy="naive",
            regularizers=[{"name": "online-ewc"}],
        )


def test_any_avalanche_plugin_can_be_named_by_its_path(lineage):
    plugin = {"name": "avalanche", "path": "avalanche.training.plugins:MASPlugin"}
    result = lineage.learn(
        texts(["billing", "garden"], 20), strategy="naive", regularizers=[plugin]
    )
    assert result.steps > 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("avalanche.training.plugins:NoSuchPlugin", "cannot be imported"),
        ("no_such_module:Plugin", "cannot be imported"),
        ("collections:OrderedDict", "is no avalanche plugin"),
    ],
)
def test_a_path_that_is_no_plugin_is_refused(lineage, path, message):
    with pytest.raises(PluginError, match=message):
        lineage.learn(
            texts(["billing"], 5),
            strategy="naive",
            regularizers=[{"name": "avalanche", "path": path}],
        )


def test_an_option_a_plugin_does_not_take_is_refused(lineage):
    plugin = {
        "name": "avalanche",
        "path": "avalanche.training.plugins:MASPlugin",
        "options": {"lamda": 1},
    }
    with pytest.raises(PluginError, match="refuses its options"):
        lineage.learn(texts(["billing"], 5), strategy="naive", regularizers=[plugin])


def test_a_wrong_option_is_refused_before_a_model_is_loaded(lineage):
    request = lineage.request(texts(["billing"], 5), strategy_options={"fine_tun": "never"})
    request = _with(request, model=request.model.model_copy(update={"base": "/no/such/model"}))
    with pytest.raises(PluginError, match="Did you mean 'fine_tune'"):
        fit_challenger(request)


def test_a_base_model_that_is_not_there_is_a_configuration_error(lineage):
    request = lineage.request(texts(["billing"], 5))
    request = _with(request, model=request.model.model_copy(update={"base": "/no/such/model"}))
    with pytest.raises(ConfigError, match="There is no folder"):
        fit_challenger(request)


def test_more_tokens_than_the_base_model_reads_are_a_configuration_error(lineage):
    request = lineage.request(texts(["billing"], 5))
    longer = replace(request, model=request.model.model_copy(update={"max_tokens": 65}))
    with pytest.raises(ConfigError, match=r"max_tokens is 65, .* at most 64 tokens"):
        fit_challenger(_made(longer))


def test_a_loss_that_is_no_number_ends_the_training(lineage):
    with pytest.raises(TrainingError, match="no longer a number"):
        lineage.learn(
            texts(["billing", "garden"], 20),
            strategy="naive",
            optimizer="sgd",
            learning_rate=1e30,
            head_learning_rate=1e30,
            max_gradient_norm=1e30,
        )


def test_replay_buffer_is_bounded_over_many_updates(tmp_path, tiny_model):
    lineage = Lineage(tmp_path, tiny_model, strategy_options={"fine_tune": "never"})
    lineage.replay = ReplayConfig(capacity_records=10, capacity_bytes=300)
    for seed in range(4):
        lineage.learn(texts(["billing", "garden", "music"], 10, seed=seed))
        state = json.loads((lineage.champion / "state" / "state.json").read_text())
        kept = [item for slot in state["buffer"]["slots"].values() for item in slot]
        assert len(kept) <= 10
        assert sum(item[2] for item in kept) <= 300
    assert state["experiences"] == 4
    assert state["records_seen"] == 120


class Newest:
    """A plugin's replay buffer, whose state only it can read."""

    name = "newest"
    summary = "the newest records"

    def __init__(self, *, capacity_records, capacity_bytes, records_per_label, seed):
        self.most, self.rows = capacity_records, []

    def add(self, exemplars):
        self.rows = [*self.rows, *exemplars][-self.most :]

    def remove(self, record_ids):
        before, unwanted = len(self.rows), set(record_ids)
        self.rows = [row for row in self.rows if row.record_id not in unwanted]
        return before - len(self.rows)

    def items(self):
        return tuple(self.rows)

    def state(self):
        return {"rows": [[row.record_id, row.key, row.size_bytes] for row in self.rows]}

    def load_state(self, state):
        self.rows = [Exemplar(record_id=i, key=k, size_bytes=b) for i, k, b in state["rows"]]


@pytest.fixture
def with_newest(lineage):
    class Plugin:
        @hookimpl
        def contlearn_register_buffers(self):
            return [Newest, type("Lucky", (Newest,), {"name": "lucky", "priority": "luck"})]

    lineage.manager.register(Plugin(), name="newest", distribution="test")
    lineage.replay = ReplayConfig(policy="newest", capacity_records=6)
    lineage.training["strategy_options"] = {"fine_tune": "never"}
    return lineage


def test_ids_in_a_plugins_buffer_are_known_whatever_its_state_looks_like(with_newest):
    with_newest.learn(texts(["billing", "garden"], 10))
    second = texts(["music"], 4)
    with_newest.learn(second)
    kept = buffered_ids(with_newest.champion / "state")
    assert len(kept) == 6
    assert set(kept) > {r.record_id for r in second}


def test_ids_in_the_buffer_of_a_version_of_before_are_read_from_its_slots(tmp_path):
    rows = {"garden": [["c", "garden", 9]], "billing": [["a", "billing", 9], ["b", "billing", 9]]}
    (tmp_path / "state.json").write_text(json.dumps({"buffer": {"slots": rows}}))
    assert buffered_ids(tmp_path) == ("c", "a", "b")
    (tmp_path / "state.json").write_text(json.dumps({"buffer": None}))
    assert buffered_ids(tmp_path) == ()


def test_a_buffer_that_asks_for_what_nobody_knows_is_refused_before_a_model_is_loaded(
    with_newest,
):
    with_newest.replay = ReplayConfig(policy="lucky")
    with_newest.base = "/no/such/folder"
    with pytest.raises(PluginError, match="asks for the priority 'luck'") as caught:
        with_newest.learn(texts(["billing"], 5))
    assert "herding, uncertainty, loss" in caught.value.hint


@pytest.mark.parametrize(
    ("policy", "strategy", "where"),
    [("herding", "replay", "replay.policy"), ("reservoir", "icarl", "training.strategy")],
)
def test_a_part_that_needs_more_than_the_task_gives_is_refused_before_a_model_is_loaded(
    tagger, policy, strategy, where
):
    tagger.base, tagger.replay = "/no/such/folder", ReplayConfig(policy=policy)
    with pytest.raises(ConfigError, match="needs class-sums") as caught:
        tagger.learn(sentences(["city"], 5), strategy=strategy)
    assert caught.value.where == f"{where} in contlearn.toml"


def test_a_high_rate_is_warned_of_before_a_model_is_loaded_and_noted(lineage):
    with pytest.warns(LearningRateWarning):
        result = lineage.learn(texts(["billing"], 5), learning_rate=1e-3)
    assert "is high for full fine-tuning" in result.notes["warnings"][0]
    lineage.base, lineage.champion = "/no/such/folder", None
    with pytest.warns(LearningRateWarning), pytest.raises(ConfigError, match="no folder"):
        lineage.learn(texts(["billing"], 5), learning_rate=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"heads": lambda task, space: TextClassification.heads(task, space) * 2},
            "There are 2 heads",
        ),
        ({"special_pieces": lambda _task: ("[M]",)}, r"The pieces '\[M\]' are the task's own"),
        ({"family": "decoder"}, "The family is 'decoder'"),
    ],
)
def test_a_task_that_no_training_here_fits_is_refused_before_a_model_is_loaded(given, said):
    task = type("Other", (TextClassification,), given)()
    with pytest.raises(TrainingError, match=said) as caught:
        one_head(task)
    assert caught.value.where == "model.task in contlearn.toml"


class Killed(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "regularizers"),
    [
        ("full", []),
        ("lora", []),
        ("full", [{"name": "lwf"}, {"name": "online-ewc"}]),
        ("full", [{"name": "si"}, {"name": "mas"}, {"name": "rwalk", "steps": 3}]),
        ("bitfit", [{"name": "ewc"}, {"name": "der-plus-plus"}, {"name": "a-gem"}]),
        ("lora", [{"name": "o-lora"}, {"name": "mir", "batch_size": 3}, {"name": "er-ace"}]),
        ("full", [{"name": "masked-words"}, {"name": "mixup"}, {"name": "fgm"}]),
    ],
)
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
def test_fit_killed_in_the_middle_gives_the_same_challenger(lineage, method, regularizers):
    settings = {
        "method": method,
        "regularizers": regularizers,
        "checkpoint_steps": 2,
        "strategy_options": {"fine_tune": "always"},
        "augmentation": {"operations": ["typo", "swap"]},
    }
    lineage.unlabelled = lineage.root / "unlabelled"
    lineage.unlabelled.mkdir()
    (lineage.unlabelled / "texts.txt").write_text("water the garden\nplay some music\n")
    lineage.learn(texts(["billing", "garden"], 25), **settings)
    second = texts(["music"], 25)

    def kill(stage, done, _total, _message):
        if stage == "training" and done == 7:
            raise Killed

    straight = fit_challenger(_made(lineage.request(second, name="straight", **settings)))
    request = _made(lineage.request(second, name="cut", **settings))
    with pytest.raises(Killed):
        fit_challenger(request, progress=kill)
    (request.output / "checkpoint").mkdir()  # what a kill while writing leaves
    (request.output / "checkpoint" / "half").write_bytes(b"written")
    torch.manual_seed(12345)
    resumed = fit_challenger(request)
    one, two = tensors(straight.checkpoint.parent), tensors(resumed.checkpoint.parent)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (straight.state / "state.json").read_bytes() == (
        resumed.state / "state.json"
    ).read_bytes()
    kept = [path for path in (straight.state / "regularizers").rglob("*") if path.is_file()]
    for path in kept:
        again = resumed.state / path.relative_to(straight.state)
        assert path.read_bytes() == again.read_bytes(), path.name
    assert resumed.notes["fine_tuning"]["resumed_at"] == 6
    assert not (resumed.checkpoint / "half").exists()


def test_head_of_another_name_is_refused_before_anything_is_trained():
    class Renamed(TextClassification):
        def heads(self, space):
            return (HeadSpec(name="score", outputs=space),)

    with pytest.raises(TrainingError) as caught:
        one_head(Renamed())
    assert caught.value.what == (
        "The task 'text-classification' cannot be trained. "
        "The name of the head is 'score'; it can be logits."
    )
    assert one_head(TextClassification()) == HeadSpec(name="logits", outputs=LabelSpace())
