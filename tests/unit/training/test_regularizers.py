"""What regularisers and strategies hold, beyond getting through two experiences."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contlearn.config import ReplayConfig
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import load_checkpoint, new_checkpoint
from contlearn.training.avalanche.plugins.importance import make_ewc
from contlearn.training.avalanche.plugins.memory import save_logits, stored_logits
from contlearn.training.avalanche.plugins.robust import Adversarial
from contlearn.training.encoded import encode_records
from contlearn.training.resume import load_tensors
from contlearn.types import LabelSpace
from tests.unit.training.conftest import sentences, texts
from tests.unit.training.test_fit import accuracy

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning",
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)


class Stub:
    """As much of a strategy as a penalty reads."""

    class clock:
        train_exp_counter = 1

    device = "cpu"

    def __init__(self, model):
        self.model = model
        self.loss = torch.zeros((), requires_grad=True) + 1e-9


@pytest.mark.parametrize(
    ("name", "importance", "scale"),
    [("ewc", "importance", 1.0), ("mas", "importance", 1.0), ("rwalk", "penalty", 1.0),
     ("si", "importance", 0.5)],
)  # fmt: skip
def test_penalty_of_the_next_update_is_what_was_saved(name, importance, scale, lineage):
    from contlearn.training.regularizers.base import RegularizerStart

    regularizers = [{"name": name}]
    lineage.learn(
        texts(["billing", "garden"], 10), strategy="naive", regularizers=regularizers, epochs=1
    )
    folder = lineage.champion / "state" / "regularizers" / name
    kept = load_tensors(folder / "state.safetensors")
    model = load_checkpoint(lineage.champion / "checkpoint").model
    start = RegularizerStart(
        model=model, load_champion=lambda: None, state=folder, experiences_before=1,
        changes_names=False,
    )  # fmt: skip
    kind, options = lineage.manager.options("regularizer", name, {"strength": 3.0}, where="test")
    plugin = kind(options).begin(start)
    stub = Stub(model)
    if name == "si":
        plugin.before_training_exp(stub)
    weights = {f"{importance}/{n}": kept[f"{importance}/{n}"] for n, _ in model.named_parameters()}
    assert any(bool(value.any()) for value in weights.values())
    assert all(bool((value >= 0).all()) for value in weights.values())
    plugin.before_backward(stub)
    assert float(stub.loss.detach()) == pytest.approx(0.0, abs=1e-6)
    generator = torch.Generator().manual_seed(2)
    expected = 0.0
    with torch.no_grad():
        for n, p in model.named_parameters():
            step = torch.randn(p.shape, generator=generator) * 0.1
            p.add_(step)
            expected += float((weights[f"{importance}/{n}"].reshape(p.shape) * step**2).sum())
    stub = Stub(model)
    plugin.before_backward(stub)
    assert float(stub.loss.detach()) == pytest.approx(3.0 * scale * expected, rel=1e-3)


def test_lfl_is_the_distance_of_features_from_the_champions(tiny_model):
    from contlearn.training.avalanche.plugins.memory import LessForgetful

    space = LabelSpace(("a", "b"))
    one, two = (
        new_checkpoint(str(tiny_model), head=HeadSpec(name="logits", outputs=space)).model.eval()
        for _ in range(2)
    )
    plugin = LessForgetful(two, strength=2.0)
    stub = Stub(one)
    stub.mb_x = torch.ones((3, 2, 6), dtype=torch.long)
    plugin.before_backward(stub)
    assert float(stub.loss.detach()) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        weight = next(one.encoder.parameters())
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    stub = Stub(one)
    stub.mb_x = torch.ones((3, 2, 6), dtype=torch.long)
    plugin.before_backward(stub)
    assert float(stub.loss.detach()) > 1e-3
    assert not any(p.requires_grad for p in two.parameters())


def test_mir_shows_what_the_step_would_harm_most_and_leaves_weights_alone(tiny_model):
    from contlearn.tasks.text_classification import TextClassification
    from contlearn.training.avalanche.plugins.memory import Interfered
    from contlearn.training.losses import RowLoss

    space = LabelSpace(("billing", "garden"))
    checkpoint = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=space), dropout=0.0
    )
    model = checkpoint.model.eval()
    model.encoder.embeddings.requires_grad_(False)
    memory = encode_records(
        texts(["billing", "garden"], 6), checkpoint, task=TextClassification(), space=space,
        max_tokens=32,
    )  # fmt: skip
    # The step pulls all texts to the first label: exemplars of the second are harmed.
    model(memory.packed)[:, 0].sum()
    stub = Stub(model)
    stub._criterion = RowLoss()
    stub.loss = -model(memory.packed)[:, 0].sum()
    stub.optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    shown = []
    memory_batch = type(memory).batch

    plugin = Interfered(memory, subsample=12, batch_size=4)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}

    def noted(self, indices):
        found = memory_batch(self, indices)
        shown.append(found[1].tolist())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(memory), "batch", noted)
        plugin.before_backward(stub)
    assert shown[-1] == [1, 1, 1, 1]
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_the_sum_of_penalties_is_one_penalty_around_the_weighted_mean(tiny_model):
    model = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a",)))
    ).model
    names = [name for name, _ in model.named_parameters()]
    generator = torch.Generator().manual_seed(1)

    def random_like(positive=False):
        return {
            n: torch.rand(p.shape, generator=generator) + (0.1 if positive else -0.5)
            for n, p in model.named_parameters()
        }

    old, anchor, new = random_like(positive=True), random_like(), random_like(positive=True)
    kept = {f"importance/{n}": old[n] for n in names} | {f"anchor/{n}": anchor[n] for n in names}
    plugin = make_ewc(model, kept, started=True, strength=1.0)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    from contlearn.training.avalanche.bridge import ParamData

    plugin.importances[1] = {n: ParamData(n, init_tensor=new[n]) for n in names}
    joined = plugin.lasting_tensors(model)

    def both(point):
        return sum(
            (old[n] * (point[n] - anchor[n]) ** 2 + new[n] * (point[n] - weights[n]) ** 2).sum()
            for n in names
        )

    def one(point):
        return sum(
            (joined[f"importance/{n}"] * (point[n] - joined[f"anchor/{n}"]) ** 2).sum()
            for n in names
        )

    here, there = random_like(), random_like()
    # They differ by a constant, so differences between points agree.
    assert float(both(here) - both(there)) == pytest.approx(float(one(here) - one(there)), rel=1e-3)


def test_importances_of_a_grown_head_begin_with_zero(lineage):
    settings = {"strategy": "naive", "regularizers": [{"name": "ewc"}], "epochs": 1}
    lineage.learn(texts(["billing", "garden"], 8), **settings)
    lineage.learn(texts(["music"], 8), **settings)
    kept = load_tensors(lineage.champion / "state" / "regularizers" / "ewc" / "state.safetensors")
    assert kept["importance/head.weight"].shape[0] == 3
    assert bool((kept["importance/head.bias"] >= 0).all())


def test_stored_scores_stay_and_new_exemplars_get_the_champions(tiny_model, tmp_path, lineage):
    space = LabelSpace(("billing", "garden"))
    checkpoint = new_checkpoint(str(tiny_model), head=HeadSpec(name="logits", outputs=space))
    records = texts(["billing", "garden"], 6)
    task = lineage.task
    first = encode_records(records[:8], checkpoint, task=task, space=space, max_tokens=32)
    before = stored_logits(first, None, checkpoint.model)
    save_logits(first, before, tmp_path)
    # The model changes and grows; some exemplars leave, others come.
    with torch.no_grad():
        checkpoint.model.head.weight.mul_(3.0)
    grown = LabelSpace(("billing", "garden", "music"))
    checkpoint.model.head.grow(grown)
    later = encode_records(records[4:], checkpoint, task=task, space=grown, max_tokens=32)
    after = stored_logits(later, tmp_path, checkpoint.model)
    assert after.shape[1] == 3
    assert torch.allclose(after[:4, :2], before[4:8])
    assert bool(after[:4, 2].isnan().all())
    assert not bool(after[4:].isnan().any())


def test_dark_experience_works_on_words_of_several_rows_an_input(tagger):
    settings = {"strategy": "naive", "regularizers": [{"name": "der-plus-plus"}], "epochs": 1}
    tagger.learn(sentences(["city"], 10), **settings)
    tagger.learn(sentences(["artist"], 10), **settings)
    result = tagger.learn(sentences(["city"], 10, seed=5), **settings)
    assert np.isfinite(result.notes["fine_tuning"]["history"][0]["loss"])


@pytest.mark.slow
def test_er_ace_holds_old_labels_better_than_er(tmp_path, tiny_model):
    from tests.unit.training.conftest import Lineage

    def after(regularizers, name):
        (tmp_path / name).mkdir()
        lineage = Lineage(tmp_path / name, tiny_model, strategy="er", epochs=6)
        lineage.replay = ReplayConfig(records_per_label=3, ratio=0.3)
        lineage.learn(texts(["billing", "garden"], 30))
        lineage.learn(texts(["music", "account"], 30), regularizers=regularizers)
        return accuracy(lineage, texts(["billing", "garden"], 20, seed=9))

    assert after([{"name": "er-ace"}], "ace") >= after([], "er") - 0.05


@pytest.mark.parametrize("kind", ["fgm", "pgd", "freelb"])
def test_adversarial_steps_raise_the_loss_and_stay_within_bounds(kind, tiny_model):
    space = LabelSpace(("billing", "garden"))
    checkpoint = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=space), dropout=0.0
    )
    from contlearn.tasks.text_classification import TextClassification

    data = encode_records(
        texts(["billing", "garden"], 4), checkpoint, task=TextClassification(), space=space,
        max_tokens=32,
    )  # fmt: skip
    model = checkpoint.model.eval()
    plugin = Adversarial(
        model, kind=kind, epsilon=0.3, steps=1 if kind == "fgm" else 3, step_size=0.5,
        weight=1.0, pieces=3,
    )  # fmt: skip
    inputs, targets = data.batch(range(8))
    seen = []

    class Noted(torch.nn.CrossEntropyLoss):
        def forward(self, scores, wanted):
            loss = super().forward(scores, wanted)
            seen.append((len(wanted), float(loss.detach())))
            return loss

    class Strategy:
        mb_x, mb_y, _criterion = inputs, targets, Noted()

    Strategy.model = model
    plugin.after_backward(Strategy)
    assert [rows for rows, _ in seen].count(2) == len(seen) / 3  # pieces of 3, 3 and 2
    with torch.no_grad():
        clean = [
            float(torch.nn.functional.cross_entropy(model(x), y))
            for x, y in zip(inputs.split(3), targets.split(3), strict=True)
        ]
    steps = len(seen) // 3
    worst = [max(loss for _, loss in seen[i * steps : (i + 1) * steps]) for i in range(3)]
    assert all(w > c for w, c in zip(worst, clean, strict=True))
    assert any(p.grad is not None for p in model.parameters())
    plugin.after_training_exp(Strategy)
    with torch.no_grad():
        again = float(torch.nn.functional.cross_entropy(model(inputs[:3]), targets[:3]))
    assert again == pytest.approx(clean[0], abs=1e-5)


def test_directions_of_o_lora_are_orthonormal_and_bounded(lineage):
    settings = {
        "strategy": "naive", "method": "lora", "method_options": {"rank": 3}, "epochs": 1,
        "regularizers": [{"name": "o-lora", "directions": 5}],
    }  # fmt: skip
    for number, labels in enumerate((["billing"], ["garden"], ["music"]), 1):
        lineage.learn(texts([*labels, "account"], 8, seed=number), **settings)
        folder = lineage.champion / "state" / "regularizers" / "o-lora"
        bases = load_tensors(folder / "directions.safetensors")
        for basis in bases.values():
            assert len(basis) == min(5, 3 * number)
            product = basis @ basis.T
            assert torch.allclose(product, torch.eye(len(basis)), atol=1e-4)


def test_gdumb_learns_from_a_balanced_memory_alone(lineage):
    lineage.replay = ReplayConfig(records_per_label=4)
    lineage.learn(texts(["billing", "garden"], 20), strategy="gdumb", epochs=1)
    result = lineage.learn(texts(["music"], 20), strategy="gdumb", epochs=1)
    assert result.notes["memory"] == 12


def test_from_scratch_knows_only_what_is_new(lineage):
    lineage.learn(texts(["billing", "garden"], 40), strategy="from-scratch")
    lineage.learn(texts(["music", "account"], 40), strategy="from-scratch")
    assert accuracy(lineage, texts(["billing", "garden"], 20, seed=9)) < 0.2


def test_icarl_ends_with_a_head_of_mean_directions(lineage):
    lineage.replay = ReplayConfig(policy="herding", records_per_label=5)
    lineage.learn(texts(["billing", "garden"], 20), strategy="icarl", epochs=2)
    lineage.learn(texts(["music", "account"], 20), strategy="icarl", epochs=2)
    head = load_checkpoint(lineage.champion / "checkpoint").model.head
    lengths = head.weight.norm(dim=1)
    assert torch.allclose(lengths, lengths[0].expand_as(lengths), rtol=1e-4)
    assert not bool(head.bias.any())


@pytest.mark.parametrize("policy", ["herding", "uncertainty", "loss-aware"])
def test_policies_that_ask_the_model_keep_their_order_over_updates(policy, lineage):
    lineage.replay = ReplayConfig(policy=policy, records_per_label=3)
    settings = {"strategy_options": {"fine_tune": "never"}}
    lineage.learn(texts(["billing", "garden"], 10), **settings)
    import json

    def slots():
        state = json.loads((lineage.champion / "state" / "state.json").read_text())
        return state["buffer"]["slots"]

    first = slots()
    assert {len(slot) for slot in first.values()} == {3}
    if policy == "herding":
        assert sorted(-item[3] if len(item) > 3 else 0 for item in first["billing"]) == [0, 1, 2]
    lineage.learn(texts(["music"], 10), **settings)
    assert slots()["billing"] == first["billing"]


def test_heads_of_few_examples_and_interpolation_stand_in_the_choice(lineage):
    options = {"head": "any", "interpolate": [0.5], "fine_tune": "auto"}
    lineage.learn(texts(["billing", "garden"], 25), strategy_options=options, epochs=1)
    result = lineage.learn(texts(["music"], 25), strategy_options=options, epochs=1)
    assert set(result.notes["choice"]["validation"]) == {
        "frozen", "frozen, nearest-mean", "frozen, cosine",
        "tuned", "tuned, nearest-mean", "tuned, cosine",
        "0.5 of the way", "0.5 of the way, nearest-mean", "0.5 of the way, cosine",
    }  # fmt: skip


def test_the_trained_head_alone_is_taken_only_where_nothing_can_be_forgotten(lineage):
    first = lineage.learn(texts(["billing", "garden"], 25), epochs=1)
    second = lineage.learn(texts(["music"], 25), epochs=1)
    assert "tuned, own head" in first.notes["choice"]["validation"]
    assert "tuned, own head" not in second.notes["choice"]["validation"]


def test_the_trained_head_stands_in_the_choice_only_where_no_labels_come(lineage):
    lineage.learn(texts(["billing", "garden"], 25), epochs=1)
    grown = lineage.learn(texts(["music", "garden"], 25), epochs=1)
    assert list(grown.notes["choice"]["validation"]) == ["tuned", "frozen"]
    fixed = lineage.learn(texts(["billing", "music"], 30)[30:], epochs=1)
    assert list(fixed.notes["choice"]["validation"]) == ["tuned, both heads", "tuned", "frozen"]


def test_another_must_lead_by_a_standard_error_to_be_taken():
    from contlearn.training.candidates import choose

    def candidate(*shares):
        return SimpleNamespace(shares=np.array(shares))

    first = candidate(0.5, 0.5, 0.5, 0.5)
    lucky, better = candidate(0.9, 0.5, 0.4, 0.4), candidate(0.6, 0.5, 0.6, 0.6)
    weights = np.full(4, 0.25)
    assert choose([first, lucky], weights, evidence=0.0) is lucky
    assert choose([first, lucky], weights, evidence=1.0) is first
    assert choose([first, lucky, better], weights, evidence=1.0) is better


def test_in_the_choice_every_experience_counts_the_same_up_to_five():
    from contlearn.training.candidates import FeatureView

    def part(size, aside):
        owners = torch.arange(size)
        data = SimpleNamespace(owners=owners, records=[None] * size)
        return SimpleNamespace(data=data, train=list(range(size - aside)),
                               validation=list(range(size - aside, size)))  # fmt: skip

    both = FeatureView((part(20, 4), part(10, 2)), ())
    for experiences, new in ((2, 1 / 2), (4, 1 / 4), (5, 1 / 5), (50, 1 / 5)):
        weights = both.weights(experiences)
        assert weights.shape == (6,)
        assert weights[:4].sum() == pytest.approx(new)
        assert weights[4:].sum() == pytest.approx(1 - new)
    assert FeatureView((part(20, 4),), ()).weights(7).sum() == pytest.approx(1.0)
    assert FeatureView((part(20, 4), part(10, 0)), ()).weights(3).tolist() == [0.25] * 4


def test_masked_words_lower_their_loss_and_are_kept(lineage, tmp_path):
    lineage.unlabelled = tmp_path / "unlabelled"
    lineage.unlabelled.mkdir()
    rows = "\n".join(["water the garden in the morning", "play some music in the evening"] * 10)
    (lineage.unlabelled / "a.txt").write_text(rows)
    (lineage.unlabelled / "b.jsonl").write_text('{"text": "pay the bill"}\nnot json\n{"text": 3}\n')
    (lineage.unlabelled / "c.csv").write_text("passed over")
    from contlearn.training.avalanche.plugins.masked import read_texts

    assert len(read_texts(lineage.unlabelled, limit=100)) == 21
    settings = {
        "strategy": "naive", "epochs": 6, "validation_ratio": 0.0,
        "regularizers": [{"name": "masked-words", "weight": 1.0, "head_learning_rate": 1e-2}],
    }  # fmt: skip
    result = lineage.learn(texts(["billing", "garden"], 16), **settings)
    history = [entry["loss"] for entry in result.notes["fine_tuning"]["history"]]
    assert history[-1] < history[0]
    assert (lineage.champion / "state/regularizers/masked-words/head.safetensors").is_file()
