"""The workbench of a strategy: one model, the records at hand, and what can be done with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contlearn.errors import TrainingError
from contlearn.interfaces import Progress
from contlearn.modeling.additions import inner_encoder
from contlearn.modeling.checkpoint import Checkpoint, load_checkpoint
from contlearn.modeling.text_model import TextModel
from contlearn.training.augment import Augmenter
from contlearn.training.compiled import compiling, eager
from contlearn.training.dropout import cheap_dropout
from contlearn.training.encoded import EncodedSet, Part, encode_records
from contlearn.training.fine_tuning import (
    FineTuning,
    FineTuningResult,
    checkpointing,
    expected_draws,
    seed_everything,
)
from contlearn.training.losses import make_loss
from contlearn.training.methods import make_method
from contlearn.training.optim import freeze
from contlearn.training.regularizers.base import Regularizer, RegularizerStart
from contlearn.training.request import FitRequest
from contlearn.training.scoring import fit_share, logits_of, metric_of
from contlearn.training.search import OnEpoch
from contlearn.training.state import DurableState, encoder_hash
from contlearn.types import Calibration, LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from contlearn.training.statistics import FeatureStatistics

    Floats = NDArray[np.float64]

__all__ = ["FitSession", "Learnt"]

# Below so many new records nothing is set aside: the few there are must be learnt.
_LEAST_FOR_VALIDATION: Final = 20


@dataclass(slots=True)
class Learnt:
    """What a strategy leaves besides the model in the session.

    Args:
        calibration: What turns the scores into calibrated answers.
        statistics: Feature statistics under the model as it is now, if it has any.
        encoder_changed: Whether the encoder differs from the champion's.
        notes: Facts for the version's report: plain values.
    """

    calibration: Calibration = field(default_factory=Calibration)
    statistics: FeatureStatistics | None = None
    encoder_changed: bool = True
    notes: dict[str, Any] = field(default_factory=dict)


class FitSession:
    """Everything one update may use. Held-out records are not here, so nothing can see them.

    `checkpoint.model` is the champion with room for the new labels, or a fresh model; a strategy
    turns it into the challenger.
    """

    def __init__(
        self,
        request: FitRequest,
        *,
        checkpoint: Checkpoint,
        new_model: Callable[[], Checkpoint],
        state: DurableState,
        old: Sequence[LabelledRecord],
        kept: frozenset[str],
        regularizers: Sequence[Regularizer],
        progress: Progress,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        training, new = request.training, request.experience.records
        new_ids = {record.record_id for record in new}
        self.task = request.task
        self.config = training
        self.model_config = request.model
        self.replay_ratio = request.replay.ratio
        self.champion = request.champion
        self.work = request.work
        self.unlabelled = request.unlabelled
        self.withdrawn = request.withdrawn
        self.seed = training.seed
        self.checkpoint = checkpoint
        self.new_model = new_model
        self.state = state
        self.regularizers = tuple(regularizers)
        self.progress = progress
        self.on_epoch = on_epoch
        self.steps = 0
        self.trained_share = 0.0
        self.began_again = False
        self.history_records = tuple(r for r in request.history if r.record_id not in new_ids)
        self.new_records = tuple(new)
        self._generator = np.random.default_rng([self.seed, state.experiences])
        # What the buffer will keep is set aside first, so that later updates have old records that
        # no training has seen: the others flatter whatever remembers them.
        self.new = self._part(new, training.validation_ratio, first=kept)
        # Without old records set aside, a choice would not see what it forgets. Exemplars set
        # aside are lost to replay only, never to the statistics.
        ratio = min(2 * training.validation_ratio, 0.5) if self.new.validation else 0.0
        old = [record for record in old if record.record_id not in new_ids]
        self.old = self._part(old, ratio, first=state.unseen, is_old=True)

    @property
    def model(self) -> TextModel:
        """The model that becomes the challenger."""
        return self.checkpoint.model

    @property
    def space(self) -> LabelSpace:
        """The outputs, the new ones included."""
        return self.model.labels

    @property
    def has_statistics(self) -> bool:
        """Whether a head can be computed from feature statistics: one row of features a record."""
        return "class-sums" in self.task.gives

    def encode(self, records: Sequence[LabelledRecord]) -> EncodedSet:
        """Tokenise records and look their targets up."""
        return encode_records(
            records,
            self.checkpoint,
            task=self.task,
            space=self.space,
            max_tokens=self.model_config.max_tokens,
        )

    def parts(self) -> tuple[Part, ...]:
        """Give the new records and, if there are any, the exemplars."""
        return (self.new, self.old) if len(self.old.data) else (self.new,)

    def validation_score(self, model: TextModel | None = None) -> float:
        """Measure a model on what was set aside: new and old count the same.

        The task's primary metric, turned so that more is better; how well the scores fit their
        targets breaks ties.
        """
        model = model or self.model
        scores = []
        for part in self.parts():
            if part.validation:
                data = part.validation_set()
                logits = logits_of(model, data)
                metric = metric_of(self.task, data, logits, self.space)
                fit = fit_share(self.model.loss, logits, data.flat)
                scores.append(metric + 0.01 * float(fit.mean()))
        return float(np.mean(scores)) if scores else 0.0

    def fine_tune(
        self,
        *,
        data: EncodedSet | None = None,
        replayed: EncodedSet | None = None,
        name: str = "fine-tuning",
        extra: Sequence[Regularizer] = (),
    ) -> FineTuningResult:
        """Train the model on new records and a draw of old ones, with all that is configured.

        Args:
            data: What is shown in every epoch; the new records' training part if left out.
            replayed: What a balanced draw is taken from in every epoch.
            name: Of the folder that holds the state of this training.
            extra: Regularisers that belong to the strategy itself.
        Raises:
            TrainingError: When there is nothing to train on, or the loss is no longer a number.
        """
        data = self.new.training_set() if data is None else data
        if not len(data):
            raise TrainingError(
                "There is nothing to train on: no record gives an input with a target.",
                where="the new records",
                hint="Check them with `contlearn data check`, or raise model.max_tokens.",
            )
        count, keys = len(data), []
        draw = 0
        if replayed is not None and len(replayed):
            draw = round(self.replay_ratio * count)
            owners = replayed.owners.tolist()
            keys = [self.task.balance_key(replayed.records[i].target) for i in owners]
            data = data.joined(replayed)
        method = make_method(self.config.method, self.config.method_options)
        model = self.model
        device = next(model.parameters()).device
        freeze(
            inner_encoder(model.encoder),
            embeddings=self.config.freeze_embeddings,
            layers=self.config.freeze_layers,
        )
        seed = self.seed + 7919 * self.state.experiences
        # A method draws its first values; a resumed training must draw the same ones.
        seed_everything(seed)
        method.begin(model, max_tokens=self.model_config.max_tokens)
        model.to(device)
        model.train()
        has_validation = any(part.validation for part in self.parts())
        shown = [1.0] * count + (expected_draws(keys, draw) if keys else [])
        loss = make_loss(
            self.config,
            kind=model.loss,
            space=self.space,
            shown=data.label_counts(shown, labels=len(self.space)) if data.has_positions else (),
            device=device,
        )
        augment = None
        if self.config.augmentation.operations:
            augment = Augmenter(
                self.config.augmentation,
                data,
                new=count,
                task=self.task,
                checkpoint=self.checkpoint,
                max_tokens=self.model_config.max_tokens,
                seed=seed,
            )
        plugins = self._plugins(method, extra)

        def measure() -> float:
            with eager():
                return self.validation_score(model)

        training = FineTuning(
            model,
            data,
            new=count,
            keys=keys,
            replayed=draw,
            config=self.config,
            loss=loss,
            augment=augment,
            measure=measure if has_validation else None,
            work=self.work / name,
            fingerprint=self._fingerprint(data, name),
            seed=seed,
            progress=self.progress,
            on_epoch=self.on_epoch,
        )
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        everything = sum(p.numel() for p in model.parameters())
        with (
            checkpointing(model, wanted=self.config.gradient_checkpointing),
            compiling(model, wanted=self.config.compile, steps=training.total_steps) as compiled,
            cheap_dropout(wanted=device.type == "cpu" and not compiled),
        ):
            result = training.run(plugins=plugins, experiences_before=self.experiences_before)
        method.end(model)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        if result.history and not np.isfinite(result.history[-1]["loss"]):
            raise TrainingError(
                f"The loss is no longer a number after step {result.steps}.",
                where=f"epoch {len(result.history)}",
                hint="Lower training.learning_rate, or the strength of the regularisers.",
            )
        self.steps += result.steps
        self.trained_share = max(self.trained_share, trained / max(everything, 1))
        return result

    def begin_again(self, records: Sequence[LabelledRecord] | None = None) -> None:
        """Take the base model with a fresh head, and all records ever learnt as new ones.

        Args:
            records: What is learnt instead of history and new records.
        """
        device = next(self.model.parameters()).device
        labels = self.space
        self.checkpoint = self.new_model()
        self.model.head.grow(labels)
        self.model.to(device)
        if records is None:
            records = self.history_records + self.new.data.records
        self.new = self._part(records, self.config.validation_ratio)
        self.old = self._part((), 0.0)
        self.state.statistics = None
        self.began_again = True

    @property
    def experiences_before(self) -> int:
        """How many experiences the model at hand has learnt before."""
        return 0 if self.began_again else self.state.experiences

    def unseen(self, kept: Iterable[str]) -> frozenset[str]:
        """Say which of the kept records no training of the model at hand has seen."""
        aside = {part.data.records[i].record_id for part in self.parts() for i in part.validation}
        old = set() if self.began_again else {r.record_id for r in self.old.data.records}
        return frozenset(aside.intersection(kept) - (old - self.state.unseen))

    def load_champion(self) -> TextModel | None:
        """Read the champion's model once more, as a teacher, if there is something to keep."""
        if self.champion is None or self.began_again:
            return None
        device = next(self.model.parameters()).device
        return load_checkpoint(self.champion / "checkpoint").model.to(device)

    # -- inside ---------------------------------------------------------------------------------

    def _plugins(self, method: Any, extra: Sequence[Regularizer]) -> list[Any]:
        folder = None if self.began_again else self.state.folder
        found = []
        for regularizer in (*extra, *self.regularizers):
            kept = folder / "regularizers" / regularizer.name if folder else None
            found.append(
                regularizer.begin(
                    RegularizerStart(
                        model=self.model,
                        load_champion=self.load_champion,
                        state=kept if kept is not None and kept.is_dir() else None,
                        experiences_before=self.experiences_before,
                        changes_names=method.changes_names,
                        method=method.name,
                        memory=self.old if len(self.old.data) else None,
                        tokenizer=self.checkpoint.tokenizer,
                        max_tokens=self.model_config.max_tokens,
                        unlabelled=self.unlabelled,
                        batch_size=self.config.batch_size,
                        micro_batch_size=self.config.micro_batch_size,
                    )
                )
            )
        return [plugin for plugin in found if plugin is not None]

    def _part(
        self,
        records: Sequence[LabelledRecord],
        ratio: float,
        *,
        first: frozenset[str] = frozenset(),
        is_old: bool = False,
    ) -> Part:
        """Encode records and set a share of each label aside, whole groups together.

        Those whose ids are in `first` go before the others. Each label keeps at least two; of old
        ones each with more gives at least one, so that every label is watched.
        """
        data = self.encode(records)
        everything = list(range(len(records)))
        if not ratio or (len(records) < _LEAST_FOR_VALIDATION and not is_old):
            return Part(data, everything, [])
        keys = [self.task.balance_key(record.target) for record in records]
        left: dict[str, int] = {}
        groups: dict[str, list[int]] = {}
        for position, record in enumerate(records):
            groups.setdefault(record.group_key, []).append(position)
            left[keys[position]] = left.get(keys[position], 0) + 1
        wanted = {
            key: max(0, min(max(int(is_old), round(ratio * count)), count - 2))
            for key, count in left.items()
        }
        aside: set[int] = set()
        names = sorted(groups)
        drawn = [groups[names[place]] for place in self._generator.permutation(len(names))]
        is_first = [record.record_id in first for record in records]
        for members in sorted(drawn, key=lambda members: not all(is_first[i] for i in members)):
            if all(wanted[keys[i]] > 0 and left[keys[i]] > 2 for i in members):
                aside.update(members)
                for i in members:
                    wanted[keys[i]] -= 1
                    left[keys[i]] -= 1
        return Part(data, [i for i in everything if i not in aside], sorted(aside))

    def _fingerprint(self, data: EncodedSet, name: str) -> str:
        """Identify a training by everything that it depends on."""
        digest = hashlib.sha256()
        facts = {
            "name": name,
            "records": [record.record_id for record in data.records],
            "training": self.config.model_dump(mode="json"),
            "model": self.model_config.model_dump(mode="json"),
            "replay_ratio": self.replay_ratio,
            "labels": list(self.space.names),
            "seed": self.seed,
            "encoder": encoder_hash(self.model.encoder),
        }
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode("utf-8"))
        digest.update(self.model.head.weight.detach().cpu().numpy().tobytes())
        return digest.hexdigest()
