"""The only importer of avalanche: text models as its strategies, plugins and datasets see them.

A dataset item is (LongTensor[k, L], target, task); the model unpacks and trims the tensor itself.
So plugins that build their own loaders and call the model themselves work unmodified on any
encoder. Where avalanche's defaults would do harm, `TextMixin` overrides them, one method each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed
from torch.utils.data import DataLoader, Dataset

from contlearn.training.avalanche.lazy_packages import avalanche_parts
from contlearn.training.dropout import dropping_alike
from contlearn.training.encoded import EncodedSet

with avalanche_parts():
    from avalanche.benchmarks import CLExperience, CLStream
    from avalanche.benchmarks.utils.classification_dataset import (
        TaskAwareSupervisedClassificationDataset,
    )
    from avalanche.benchmarks.utils.data_attribute import DataAttribute, TaskLabels
    from avalanche.benchmarks.utils.flat_data import ConstantSequence
    from avalanche.core import SupervisedPlugin
    from avalanche.models import BaseModel, avalanche_forward
    from avalanche.models.dynamic_modules import MultiTaskModule
    from avalanche.training.plugins import (
        AGEMPlugin,
        EvaluationPlugin,
        EWCPlugin,
        GEMPlugin,
        LFLPlugin,
        LwFPlugin,
        MASPlugin,
        RWalkPlugin,
        SynapticIntelligencePlugin,
    )
    from avalanche.training.templates import SupervisedTemplate
    from avalanche.training.utils import ParamData

from contlearn.modeling.text_model import TextModel

__all__ = [
    "AGEMPlugin",
    "EWCPlugin",
    "GEMPlugin",
    "LFLPlugin",
    "Loop",
    "LwFPlugin",
    "MASPlugin",
    "ParamData",
    "RWalkPlugin",
    "SupervisedPlugin",
    "SynapticIntelligencePlugin",
    "TextExperience",
    "TextMixin",
    "make_dataset",
    "make_experience",
    "make_strategy",
    "train",
]

# LFL and iCaRL look for avalanche's base class; our model has its method.
BaseModel.register(TextModel)


class Loop(Protocol):
    """What our side of the loop does between avalanche's steps."""

    @property
    def is_done(self) -> bool:
        """Whether no epoch is left."""
        ...

    def batches(self) -> Sequence[Sequence[int]]:
        """Give the batches of the epoch that are still to do, as positions in the set."""
        ...

    def inputs(self) -> EncodedSet:
        """Give the inputs of the epoch."""
        ...

    def new_inputs(self) -> list[bool]:
        """Say of each input of the batch at hand whether it is new."""
        ...

    def start(self, strategy: Any) -> None:
        """Put everything where it was; called right before the first step."""
        ...

    def before_step(self) -> None:
        """Clip gradients and set the rate."""
        ...

    def after_step(self, loss: Tensor) -> None:
        """Count, report, save."""
        ...

    def after_epoch(self) -> None:
        """Measure, save, and go on to the next epoch."""
        ...


class _Items(Dataset[tuple[Tensor, "int | Tensor"]]):
    """One input with its targets: a position, or those of each of its rows of scores."""

    def __init__(self, data: EncodedSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        target = self.data.targets_of(index)
        is_position = self.data.is_flat and self.data.has_positions
        return self.data.packed[index], int(target[0]) if is_position else target


class _WordTargets(DataAttribute):  # type: ignore[misc]  # avalanche is untyped
    """Targets of several words an item; its unique values are label positions, not tuples."""

    @property
    def uniques(self) -> set[int]:
        return {position for item in self.data for position in item}

    def subset(self, indices: Sequence[int]) -> _WordTargets:
        return _WordTargets(self.data.subset(indices), self.name)

    def concat(self, other: _WordTargets) -> _WordTargets:
        return _WordTargets(self.data.concat(other.data), self.name)


def _collate(items: Sequence[Sequence[Any]]) -> list[Tensor]:
    """Stack inputs and string the targets of words together, as the model does with logits."""
    longest = max(item[0].shape[-1] for item in items)
    inputs = torch.stack(
        [nn.functional.pad(item[0], (0, longest - item[0].shape[-1])) for item in items]
    )
    first = items[0][1]
    if isinstance(first, Tensor) and first.is_floating_point():
        targets = torch.cat([item[1] for item in items])
    else:
        targets = torch.cat(
            [torch.as_tensor(item[1], dtype=torch.long).reshape(-1) for item in items]
        )
    return [inputs, targets, torch.tensor([int(item[-1]) for item in items])]


def make_dataset(data: EncodedSet) -> Any:
    """Show an encoded set as an avalanche dataset, with targets and one task."""
    if not data.has_positions:
        # avalanche wants to know of classes, and numbers have none.
        targets = DataAttribute([0] * len(data), "targets")
    elif data.is_flat:
        targets = DataAttribute(data.flat.tolist(), "targets")
    else:
        targets = _WordTargets(
            [tuple(data.targets_of(i).tolist()) for i in range(len(data))], "targets"
        )
    return TaskAwareSupervisedClassificationDataset(
        [_Items(data)],
        data_attributes=[targets, TaskLabels(ConstantSequence(0, len(data)))],
        collate_fn=_collate,
    )


class TextExperience(CLExperience):  # type: ignore[misc]  # avalanche is untyped
    """One experience with plain attributes: avalanche's own has no setter for its dataset."""

    def __init__(self, dataset: Any, *, index: int, name: str) -> None:
        super().__init__(current_experience=index, origin_stream=None)
        self.dataset = dataset
        self.task_labels = [0]
        self.task_label = 0
        self.classes_in_this_experience = sorted(dataset.targets.uniques)
        self.origin_stream = CLStream(name, [self], set_stream_info=False)


def make_experience(data: EncodedSet, *, index: int, name: str = "train") -> TextExperience:
    """Show an encoded set as one avalanche experience."""
    return TextExperience(make_dataset(data), index=index, name=name)


class _Silence(EvaluationPlugin):  # type: ignore[misc]  # avalanche is untyped
    """No metrics: contlearn measures by itself, and this hook runs ten times a step."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # avalanche 0.6.0 warns that nothing will be logged, which is what is wanted.
            warnings.simplefilter("ignore")
            super().__init__(collect_all=False)

    def _update_metrics_and_loggers(self, strategy: Any, callback: str) -> list[Any]:
        return []


class _LoopPlugin(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Calls our loop; stands behind the user's plugins, so that it sees final gradients."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop

    def before_update(self, strategy: Any, **_: Any) -> None:
        self.loop.before_step()

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        self.loop.after_step(strategy.loss)


class _Batches:
    """The batches of one epoch, cut straight from the packed tensor."""

    def __init__(self, data: EncodedSet, batches: Sequence[Sequence[int]]) -> None:
        self.data = data
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for indices in self._batches:
            inputs, targets = self.data.batch(indices)
            yield [inputs, targets, torch.zeros(len(indices), dtype=torch.long)]


class TextMixin:
    """Stands before an avalanche template or strategy and keeps text models safe in it."""

    text_loop: Loop | None = None
    text_data: EncodedSet | None = None
    text_experience: TextExperience | None = None
    micro_batch_size: int = 0
    half_precision: bool = False

    def make_optimizer(self, **_: Any) -> None:
        """Keep the groups as they are; drop dead parameters, add grown ones to the last group.

        avalanche puts every parameter into the optimizer: frozen ones and rates a layer are lost.
        """
        alive = {id(p): p for p in self.model.parameters() if p.requires_grad}
        known: set[int] = set()
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in alive:
                    self.optimizer.state.pop(parameter, None)
            group["params"] = [p for p in group["params"] if id(p) in alive]
            known.update(id(p) for p in group["params"])
        grown = [p for identity, p in alive.items() if identity not in known]
        self.optimizer.param_groups[-1]["params"].extend(grown)
        self.optimized_param_id = dict(self.model.named_parameters())

    def model_adaptation(self, model: Any = None) -> Any:
        """Never grow a head while evaluating: a stream with unseen labels would widen it."""
        if not self.is_training:  # type: ignore[attr-defined]  # avalanche's side has it
            return self.model if model is None else model
        return super().model_adaptation(model)  # type: ignore[misc]  # avalanche's side has it

    def forward(self) -> Tensor:
        """Score the mini-batch; a long one in pieces that are recomputed for the backward pass.

        One logical batch, one backward pass: every hook of every plugin stays valid, which
        gradient accumulation around the loop would break.
        """
        if self.half_precision:
            # Scores and the loss stay in fp32; plugins read and project fp32 gradients.
            kind = torch.device(self.device).type  # type: ignore[attr-defined]  # avalanche's side has it
            with torch.autocast(kind, dtype=torch.bfloat16):
                return self._scores().float()
        return self._scores()

    def _scores(self) -> Tensor:
        inputs: Tensor = self.mb_x  # type: ignore[attr-defined]  # avalanche's side has it
        model, size = self.model, self.micro_batch_size
        if isinstance(model, MultiTaskModule):
            return avalanche_forward(model, inputs, self.mb_task_id)  # type: ignore[attr-defined,no-any-return]  # avalanche's side has it
        if not self.is_training or not size or len(inputs) <= size:  # type: ignore[attr-defined]  # avalanche's side has it
            scores: Tensor = model(inputs)
            return scores
        return torch.cat(
            [
                checkpointed(model, part, use_reentrant=False, context_fn=dropping_alike)
                for part in torch.split(inputs, size)
            ]
        )

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Cut batches of like length from the packed tensor.

        A plugin that put another dataset in the place of ours gets an ordinary loader.
        """
        loop, data = self.text_loop, self.text_data
        ours = self.text_experience
        if loop is not None and data is not None and self._is_ours(ours):
            self.dataloader: Any = _Batches(data, [])
            return
        self.dataloader = DataLoader(
            self.adapted_dataset,  # type: ignore[attr-defined]  # avalanche's side has it
            batch_size=self.train_mb_size,  # type: ignore[attr-defined]  # avalanche's side has it
            shuffle=True,
            collate_fn=_collate,
        )

    def _is_ours(self, ours: TextExperience | None) -> bool:
        adapted = self.adapted_dataset  # type: ignore[attr-defined]  # avalanche's side has it
        return ours is not None and self.experience is ours and len(adapted) == len(ours.dataset)

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        """Run the epochs that are still to do; stop when our loop says so."""
        loop = self.text_loop
        if loop is None:
            super()._train_exp(experience, eval_streams, **kwargs)  # type: ignore[misc]  # avalanche's side has it
            return
        loop.start(self)
        while not loop.is_done:
            if isinstance(self.dataloader, _Batches):
                self.dataloader = _Batches(loop.inputs(), loop.batches())
            self._before_training_epoch(**kwargs)  # type: ignore[attr-defined]  # avalanche's side has it
            if self._stop_training:
                self._stop_training = False
                break
            self.training_epoch(**kwargs)  # type: ignore[attr-defined]  # avalanche's side has it
            self._after_training_epoch(**kwargs)  # type: ignore[attr-defined]  # avalanche's side has it
            loop.after_epoch()

    # What avalanche's side of the class holds.
    model: Any
    optimizer: Any
    experience: Any
    optimized_param_id: Any
    _stop_training: bool


def make_strategy(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    criterion: nn.Module,
    batch_size: int,
    epochs: int,
    micro_batch_size: int = 0,
    plugins: Sequence[Any] = (),
    loop: Loop | None = None,
    experiences_before: int = 0,
    device: str = "cpu",
    half_precision: bool = False,
    template: type[Any] = SupervisedTemplate,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Make an avalanche strategy for text.

    Args:
        model: A `TextModel`.
        optimizer: With the parameter groups that shall stay.
        criterion: The loss.
        batch_size: Inputs in a logical batch.
        epochs: Passes over the data; with a loop, the loop says which are left.
        micro_batch_size: Above this size the forward pass is done in pieces; 0 never.
        plugins: avalanche plugins, in this order.
        loop: Our side of the loop.
        experiences_before: What the clock begins with: plugins such as EWC do nothing in a first
            experience, so a restart must not look like one.
        device: Where to compute.
        half_precision: Compute scores in bfloat16; weights and gradients stay in fp32.
        template: Any avalanche template or strategy class for supervised learning.
        options: Further keyword arguments of that class.
    """
    combined = type(f"Text{template.__name__}", (TextMixin, template), {})
    strategy = combined(
        model=model,
        optimizer=optimizer,
        criterion=criterion,
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=batch_size,
        device=device,
        plugins=[*plugins, *([_LoopPlugin(loop)] if loop is not None else [])],
        evaluator=_Silence(),
        **dict(options or {}),
    )
    strategy.text_loop = loop
    strategy.micro_batch_size = micro_batch_size
    strategy.half_precision = half_precision
    strategy.clock.train_exp_counter = experiences_before
    return strategy


def train(
    strategy: Any, data: EncodedSet, *, index: int, validation: EncodedSet | None = None
) -> None:
    """Let a strategy learn an encoded set as one experience.

    The evaluation stream is always explicit: avalanche's default is the training data.
    """
    experience = make_experience(data, index=index)
    strategy.text_data, strategy.text_experience = data, experience
    streams = []
    if validation is not None and len(validation):
        streams = [[make_experience(validation, index=index, name="validation")]]
    strategy.train(experience, eval_streams=streams)
