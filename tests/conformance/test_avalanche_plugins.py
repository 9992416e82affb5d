"""Which of avalanche's plugins and strategies work on text, fixed or growing head, first or later.

The table in docs comes from here: what cannot work stands with its reason.
"""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch

from contlearn.config import TrainingConfig
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.training.avalanche import bridge
from contlearn.training.encoded import encode_records
from contlearn.training.optim import make_optimizer
from contlearn.types import LabelSpace
from tests.unit.training.conftest import sentences, texts

# avalanche 0.6.0 indexes with a list of slices where a tensor grows (training/utils.py, ParamData).
pytestmark = pytest.mark.filterwarnings(
    "ignore:Using a non-tuple sequence:UserWarning",
    # avalanche 0.6.0 hands torch tensors to numpy in synaptic intelligence.
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)
PLUGINS = {
    "ReplayPlugin": {"mem_size": 8},
    "EWCPlugin": {"ewc_lambda": 0.4, "mode": "online", "decay_factor": 0.9},
    "LwFPlugin": {},
    "GEMPlugin": {"patterns_per_experience": 4, "memory_strength": 0.5},
    "AGEMPlugin": {"patterns_per_experience": 4, "sample_size": 4},
    "SynapticIntelligencePlugin": {"si_lambda": 0.1},
    "MASPlugin": {},
    # Its scores are 0 / 0 when an experience is shorter than delta_t.
    "RWalkPlugin": {"delta_t": 1},
    "GDumbPlugin": {"mem_size": 8},
    "MIRPlugin": {"batch_size_mem": 4, "mem_size": 8, "subsample": 6},
    "LFLPlugin": {"lambda_e": 0.1},
}
STRATEGIES = {
    "DER": {"mem_size": 8, "batch_size_mem": 4},
    "ER_ACE": {"mem_size": 8, "batch_size_mem": 4},
}
GROWS_NOT = {
    "DER": "stored logits are narrower than the grown head (avalanche: der.py)",
    "GDumbPlugin": "begins again from the model it saw first, whose head is narrower",
}
NOT_FOR_WORDS = {
    "GEMPlugin": "expects one row of logits an input",
    "GDumbPlugin": "sorts inputs by one target each",
    "MIRPlugin": "sorts inputs by one target each",
    "DER": "stores one row of logits an input",
    "ER_ACE": "sorts inputs by one target each",
}
# Strategies that no setting makes work here, with what stands in the way (FIELD 2.5).
NEVER = {
    "BiCPlugin": "MultiStepLR(verbose=) is gone from torch",
    "GSS_greedyPlugin": "reshapes inputs as images",
    "RARPlugin": "takes an adversarial step on piece ids",
    "CoPEPlugin": "wants embeddings as output",
    "FromScratchTrainingPlugin": "resets optimizers with a single parameter group only",
}


def fails(reason):
    """Expect a failure that has a reason, and none that has not."""
    return (
        contextlib.nullcontext()
        if reason is None
        else pytest.raises((ValueError, TypeError, IndexError, UserWarning))
    )


def prepared(tiny_model, task, space):
    torch.manual_seed(0)
    return new_checkpoint(str(tiny_model), head=task.heads(space)[0])


def experiences(checkpoint, task, records, space):
    return encode_records(records, checkpoint, task=task, space=space, max_tokens=32)


def make(name, model):
    import avalanche.training
    import avalanche.training.plugins
    from avalanche.training.templates import SupervisedTemplate

    optimizer = make_optimizer(model, TrainingConfig(learning_rate=1e-4, layer_decay=0.5))
    arguments = {
        "criterion": torch.nn.CrossEntropyLoss(),
        "batch_size": 8,
        "epochs": 1,
        # LFL switches the model to evaluation between forward and backward: no pieces then.
        "micro_batch_size": 0 if name == "LFLPlugin" else 4,
    }
    if name in STRATEGIES:
        template = getattr(avalanche.training, name)
        options = {**STRATEGIES[name]}
        return bridge.make_strategy(
            model, optimizer, template=template, options=options, **arguments
        )
    plugin = getattr(avalanche.training.plugins, name)(**PLUGINS[name])
    return bridge.make_strategy(
        model, optimizer, template=SupervisedTemplate, plugins=[plugin], **arguments
    )


def learn_two(name, checkpoint, task, first, second, *, grows):
    whole = task.outputs(LabelSpace(), [r.target for r in [*first, *second]])
    early = task.outputs(LabelSpace(), [r.target for r in first])
    whole = early.extended(whole.names)
    model = checkpoint.model
    model.head.grow(early if grows else whole)
    for parameter in model.encoder.embeddings.parameters():
        parameter.requires_grad_(False)
    frozen = model.encoder.embeddings.word_embeddings.weight.clone()
    strategy = make(name, model)
    rates = [group["lr"] for group in strategy.optimizer.param_groups]
    before = model.head.weight.detach().clone()
    bridge.train(strategy, experiences(checkpoint, task, first, whole), index=0)
    assert strategy.clock.train_exp_counter == 1
    strategy.model.head.grow(whole)
    bridge.train(strategy, experiences(checkpoint, task, second, whole), index=1)
    assert strategy.clock.train_exp_counter == 2
    trained = strategy.model
    assert torch.equal(trained.encoder.embeddings.word_embeddings.weight, frozen)
    assert not torch.equal(trained.head.weight[: len(before)], before)
    assert [group["lr"] for group in strategy.optimizer.param_groups] == rates
    held = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
    assert id(trained.head.weight) in held
    for parameter in trained.parameters():
        assert torch.isfinite(parameter).all()


@pytest.mark.slow
@pytest.mark.parametrize("grows", [False, True], ids=["fixed head", "growing head"])
@pytest.mark.parametrize("name", [*PLUGINS, *STRATEGIES])
def test_plugin_works_on_text_in_a_first_and_a_later_experience(name, grows, tiny_model):
    task = TextClassification()
    checkpoint = prepared(tiny_model, task, LabelSpace())
    first, second = texts(["billing", "garden"], 8), texts(["music", "account"], 8)
    with fails(GROWS_NOT.get(name) if grows else None):
        learn_two(name, checkpoint, task, first, second, grows=grows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLUGINS, *STRATEGIES])
def test_plugin_works_on_words(name, tiny_model):
    task = TokenClassification()
    checkpoint = prepared(tiny_model, task, LabelSpace())
    first, second = sentences(["city"], 12), sentences(["artist"], 12)
    with fails(NOT_FOR_WORDS.get(name)):
        learn_two(name, checkpoint, task, first, second, grows=name not in GROWS_NOT)


@pytest.mark.parametrize("name", NEVER)
def test_what_never_works_is_still_there_to_be_refused(name):
    import avalanche.training.plugins as plugins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hasattr(plugins, name) or name in ("RARPlugin", "GSS_greedyPlugin", "CoPEPlugin")


def test_evaluation_never_grows_the_head(tiny_model):
    task = TextClassification()
    space = LabelSpace(("billing", "garden"))
    checkpoint = prepared(tiny_model, task, space)
    strategy = make("LwFPlugin", checkpoint.model)
    data = experiences(checkpoint, task, texts(["billing", "garden"], 4), space)
    strategy.eval([bridge.make_experience(data, index=0, name="test")])
    assert checkpoint.model.labels == space


def test_optimizer_drops_what_is_dead_and_takes_up_what_grew(tiny_model):
    task = TextClassification()
    checkpoint = prepared(tiny_model, task, LabelSpace(("a", "b")))
    strategy = make("LwFPlugin", checkpoint.model)
    old = checkpoint.model.head.weight
    sizes = [len(group["params"]) for group in strategy.optimizer.param_groups]
    checkpoint.model.head.grow(LabelSpace(("a", "b", "c")))
    strategy.make_optimizer()
    held = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
    assert id(old) not in held
    assert id(checkpoint.model.head.weight) in held
    assert sum(len(group["params"]) for group in strategy.optimizer.param_groups) == sum(sizes)
