from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
import torch

from contlearn.config import AugmentationConfig, Config, ReplayConfig, TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import Field, HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.training.augment import Augmenter, change_words
from contlearn.training.checks import check_training
from contlearn.training.encoded import encode_records
from contlearn.training.losses import RowLoss, label_weights, make_loss
from contlearn.training.optim import make_optimizer, make_schedule
from contlearn.types import LabelSpace
from tests.unit.training.conftest import sentences, texts

SPACE = LabelSpace(("billing", "garden"))


def test_plain_loss_is_torchs():
    scores, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(scores, targets, label_smoothing=smoothing)
        assert torch.allclose(RowLoss(smoothing=smoothing)(scores, targets), expected)
    weights = torch.tensor([1.0, 5.0, 0.5])
    expected = torch.nn.functional.cross_entropy(scores, targets, weight=weights)
    assert torch.allclose(RowLoss(weights=weights)(scores, targets), expected)


def test_focal_loss_passes_over_what_is_known_well():
    scores, targets = torch.tensor([[6.0, 0.0], [0.0, 0.1]]), torch.tensor([0, 0])
    plain, focal = RowLoss().rows(scores, targets), RowLoss(gamma=2.0).rows(scores, targets)
    assert float(focal[0] / plain[0]) < 1e-4
    assert float(focal[1] / plain[1]) > 0.2


def test_rows_can_be_ranked_for_a_while():
    loss = RowLoss()
    loss.reduction = "none"
    assert loss(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])).shape == (4,)


def test_balanced_weights_are_bounded_and_leave_unseen_labels_alone():
    space = LabelSpace(("a", "b", "c"))
    weights = label_weights("balanced", space=space, shown=[1000, 1, 0])
    assert weights[1] == 10.0
    assert weights[2] == 1.0
    assert label_weights("none", space=space, shown=[1, 0, 0]) is None
    config = TrainingConfig(class_weights={"b": 3.0, "a label to come": 2.0})
    loss = make_loss(config, space=space, shown=[1, 1, 0], device=torch.device("cpu"))
    assert loss.weights.tolist() == [1.0, 3.0, 1.0]


@pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)
def test_balanced_weights_count_what_an_epoch_shows_and_not_the_whole_stock(lineage, monkeypatch):
    from contlearn.training.fine_tuning import FineTuning

    class Begun(Exception):
        """Carries the weights that a training begins with, and ends it there."""

    def begun(training, **_):
        raise Begun(training.loss.weights.tolist())

    lineage.replay = ReplayConfig(ratio=0.5, records_per_label=1000)
    lineage.learn(texts(["billing"], 1000), strategy_options={"fine_tune": "never"})
    monkeypatch.setattr(FineTuning, "run", begun)
    # 50 of the 1000 old ones are shown beside the 100 new ones.
    with pytest.raises(Begun, match=re.escape("[1.5, 0.75]")):
        lineage.learn(
            texts(["garden"], 100), strategy="er", class_weights="balanced", validation_ratio=0
        )


def test_a_weight_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match="The weight of the label 'a' is 0"):
        label_weights({"a": 0.0}, space=LabelSpace(("a",)), shown=[1])


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor", "torch.optim:NAdam"])
def test_optimizers_by_name_and_by_path_learn(name, tiny_model):
    model = new_checkpoint(str(tiny_model), head=HeadSpec(name="logits", outputs=SPACE)).model
    optimizer = make_optimizer(model, TrainingConfig(optimizer=name, learning_rate=1e-3))
    inputs = torch.ones((2, 2, 5), dtype=torch.long)
    before = model.head.weight.detach().clone()
    model(inputs).pow(2).sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adam"}, "Did you mean 'adamw'"),
        ({"optimizer": "torch.optim:NoSuch"}, "cannot be imported"),
        ({"optimizer": "torch.nn:Linear"}, "is no optimizer of torch"),
        ({"scheduler": "cosin"}, "Did you mean 'cosine'"),
        ({"scheduler": "os:getcwd"}, "does not give a number"),
        ({"augmentation": {"operations": ["no_such_module:change"]}}, "cannot be imported"),
    ],
)
def test_names_are_checked_before_a_model_is_loaded(settings, message):
    with pytest.raises(ConfigError) as caught:
        check_training(TrainingConfig.model_validate(settings))
    assert message in f"{caught.value.what} {caught.value.hint}"


def test_options_that_an_optimizer_does_not_take_are_refused(tiny_model):
    model = new_checkpoint(str(tiny_model), head=HeadSpec(name="logits", outputs=SPACE)).model
    with pytest.raises(ConfigError, match="refuses its options"):
        make_optimizer(model, TrainingConfig(optimizer_options={"betaz": 1}))


def steps_down(step, steps):
    return 1.0 - step / steps


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "square"])
def test_schedules_rise_then_do_not_rise_again(name):
    factor = make_schedule(TrainingConfig(scheduler=name, warmup_ratio=0.2), 20)
    values = [factor(step) for step in range(20)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert values[4:] == sorted(values[4:], reverse=True)
    assert min(values) > 0


def test_a_schedule_of_ones_own_is_called_with_step_and_steps():
    path = f"{__name__}:steps_down"
    assert make_schedule(TrainingConfig(scheduler=path), 10)(5) == 0.5


# -- augmentation -------------------------------------------------------------------------------


def shout(text: str, random: random.Random) -> str:
    return text.upper() + "!" * random.randint(1, 3)


def broken(text: str, random: random.Random) -> str:
    raise ValueError("never")


def augmenter(tiny_model, operations, *, task=None, records=None, share=1.0):
    task = task or TextClassification()
    records = records or texts(["billing", "garden"], 4)
    space = task.outputs(LabelSpace(), [r.target for r in records])
    head = task.heads(space)[0]
    checkpoint = new_checkpoint(str(tiny_model), head=head)
    data = encode_records(records, checkpoint, task=task, space=space, max_tokens=32)
    config = AugmentationConfig(operations=operations, share=share)
    made = Augmenter(
        config, data, new=len(data) - 2, task=task, checkpoint=checkpoint, max_tokens=32, seed=3
    )
    return made, data


@pytest.mark.parametrize("name", ["typo", "case", "mask", "swap", "delete", "duplicate"])
def test_every_operation_changes_words(name):
    words = ["please", "water", "all", "the", "plants"]
    changed = [change_words(words, name, strength=0.4, seed=str(n)) for n in range(8)]
    assert any(found != words for found in changed)
    if name in ("typo", "case", "mask"):
        assert all(len(found) == len(words) for found in changed)
    assert change_words([], name, strength=0.5, seed="1") == []
    assert change_words(["a"], name, strength=0.5, seed="1")


def test_an_epoch_is_the_same_whenever_asked_and_another_differs(tiny_model):
    made, data = augmenter(tiny_model, ("typo", "swap", "delete"))
    one, again, other = made(0), made(0), made(1)
    assert torch.equal(one.packed, again.packed)
    assert not torch.equal(one.packed, other.packed)
    assert torch.equal(one.flat, data.flat)


def test_a_hidden_word_is_the_tokenizers_own_mask_or_unknown_piece(tiny_model):
    made, data = augmenter(tiny_model, ("mask",))
    tokenizer = made.checkpoint.tokenizer
    assert int((made(0).packed == tokenizer.mask_token_id).sum()) > 0
    tokenizer.mask_token = None
    unknown = tokenizer.convert_tokens_to_ids("[UNK]")
    config = AugmentationConfig(operations=("mask",), share=1.0)
    parts = {"new": len(data), "task": TextClassification(), "max_tokens": 32, "seed": 3}
    hidden = Augmenter(config, data, checkpoint=made.checkpoint, **parts)
    assert int((hidden(0).packed == unknown).sum()) > int((data.packed == unknown).sum())


def test_a_tokenizer_without_a_piece_to_hide_words_behind_is_refused(tiny_model):
    from tokenizers import Tokenizer, models

    made, data = augmenter(tiny_model, ("typo",))

    class Spelling:
        mask_token = None
        unk_token = "<unk>"  # listed, and given never
        backend_tokenizer = Tokenizer(models.BPE({"a": 0}, []))

    made.checkpoint.tokenizer = Spelling()
    config = AugmentationConfig(operations=("mask",), share=1.0)
    with pytest.raises(ConfigError, match="neither a mask nor an unknown piece"):
        Augmenter(
            config,
            data,
            new=1,
            task=TextClassification(),
            checkpoint=made.checkpoint,
            max_tokens=32,
            seed=3,
        )


def test_only_new_texts_are_changed(tiny_model):
    made, data = augmenter(tiny_model, ("delete",))
    found = made(0)
    length = data.packed.shape[2]
    assert torch.equal(found.packed[-2:, :, :length], data.packed[-2:])
    assert not torch.equal(found.packed[:-2, :, :length], data.packed[:-2])


def test_a_function_of_ones_own_changes_texts(tiny_model):
    made, data = augmenter(tiny_model, (f"{__name__}:shout",))
    assert int(made(0).lengths[:-2].sum()) > int(data.lengths[:-2].sum())


class Worded(TextClassification):
    """One class for each list of words."""

    fields = (Field("words", "words"), TextClassification.fields[1])


def test_words_of_a_task_with_one_row_a_text_are_joined_for_a_function(tiny_model):
    records = [
        replace(one, inputs={"words": tuple(one.inputs["text"].split())})
        for one in texts(["billing", "garden"], 4)
    ]
    for name in (f"{__name__}:shout", "delete"):
        made, data = augmenter(tiny_model, (name,), task=Worded(), records=records)
        assert not torch.equal(made(0).lengths[:-2], data.lengths[:-2])
    words = ("pay", "the bill")
    made, _ = augmenter(tiny_model, (f"{__name__}:shout",), task=Worded(), records=records)
    changed = made._changed({"words": words}, f"{__name__}:shout", "1")["words"]
    assert changed[:2] == ("PAY", "THE")
    made._translate = lambda some: [text.replace("pay", "settle") for text in some]
    made._prepare([{"words": words}])
    assert made._changed({"words": words}, "back-translation", "1")["words"] == (
        "settle", "the", "bill",
    )  # fmt: skip
    made._translated["pay the bill"] = "pay the bill"
    assert made._changed({"words": words}, "back-translation", "1")["words"] == words


def test_a_function_that_fails_is_named(tiny_model):
    made, _ = augmenter(tiny_model, (f"{__name__}:broken",))
    with pytest.raises(TrainingError, match="broken' failed: ValueError: never"):
        made(0)


def test_words_with_labels_keep_their_number(tiny_model):
    records = sentences(["city"], 6)
    made, data = augmenter(
        tiny_model, ("typo", "mask"), task=TokenClassification(), records=records
    )
    found = made(0)
    assert torch.equal(found.offsets, data.offsets)
    assert torch.equal(found.packed[:, 2].sum(dim=1), data.packed[:, 2].sum(dim=1))
    with pytest.raises(ConfigError, match="may change the number of words"):
        augmenter(tiny_model, ("delete",), task=TokenClassification(), records=records)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"operations": ["typos"]}, "neither one of"),
        ({"operations": ["back-translation"]}, "there and back"),
        ({"models": ["a"]}, "there and back"),
        ({"share": 0}, "greater than 0"),
        ({"oprations": []}, "Extra inputs"),
    ],
)
def test_augmentation_is_checked_when_the_configuration_is_read(value, message):
    with pytest.raises(ValueError, match=message):
        Config.model_validate({"training": {"augmentation": value}})


# -- settings of the loop -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "method": "lora", "method_options": {"rank": 2}},
        {"loss": "focal", "class_weights": "balanced", "label_smoothing": 0.1},
        {"optimizer": "torch.optim:NAdam", "scheduler": "cosine", "micro_batch_size": 3},
    ],
    ids=lambda settings: ", ".join(settings),
)
@pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)
def test_settings_of_the_loop_learn_and_leave_an_ordinary_model(settings, lineage):
    from contlearn.modeling.checkpoint import load_checkpoint

    result = lineage.learn(texts(["billing", "garden"], 16), strategy="naive", epochs=4, **settings)
    history = [entry["loss"] for entry in result.notes["fine_tuning"]["history"]]
    assert history[-1] < history[0]
    model = load_checkpoint(lineage.champion / "checkpoint").model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())


@pytest.mark.parametrize("optimizer", ["adafactor", "torch.optim:NAdam"])
def test_training_with_other_optimizers_goes_on_bit_by_bit(optimizer, tiny_model, tmp_path):
    from tests.unit.training.test_fine_tuning import Killed, training, weights

    straight = training(tiny_model, tmp_path / "straight", optimizer=optimizer)
    straight.run()
    cut = training(tiny_model, tmp_path / "cut", optimizer=optimizer, kill_at=5)
    with pytest.raises(Killed):
        cut.run()
    torch.manual_seed(99)
    resumed = training(tiny_model, tmp_path / "cut", optimizer=optimizer)
    assert resumed.run().resumed_at == 4
    expected, found = weights(straight), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
