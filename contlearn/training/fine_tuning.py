"""One fine-tuning: our side of avalanche's loop, with early stopping and exact resumption."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError
from contlearn.interfaces import Progress
from contlearn.modeling.additions import inner_encoder
from contlearn.modeling.text_model import TextModel
from contlearn.training import interruption
from contlearn.training.dropout import dropping_alike
from contlearn.training.encoded import EncodedSet, count_batches, plan_epoch
from contlearn.training.losses import RowLoss
from contlearn.training.optim import make_optimizer, make_schedule
from contlearn.training.resume import (
    TrainingState,
    latest_state,
    load_tensors,
    put_back,
    save_state,
    save_tensors,
    trained_tensors,
)
from contlearn.training.search import OnEpoch

__all__ = [
    "FineTuning",
    "FineTuningResult",
    "checkpointing",
    "expected_draws",
    "seed_everything",
]


def seed_everything(seed: int) -> None:
    """Seed the global generators that torch and plugins draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # plugins may use numpy's global generator
    torch.manual_seed(seed)


@contextlib.contextmanager
def checkpointing(model: TextModel, *, wanted: bool) -> Iterator[None]:
    """Let the encoder keep the states between its layers only, and compute the rest again.

    Raises:
        ConfigError: When it cannot.
    """
    if not wanted:
        yield
        return
    encoder: Any = inner_encoder(model.encoder)
    # The name that transformers 5 gives to what 4 calls gradient checkpointing.
    kind = "activation" if hasattr(encoder, "activation_checkpointing_enable") else "gradient"
    try:
        getattr(encoder, f"{kind}_checkpointing_enable")(
            {"use_reentrant": False, "context_fn": dropping_alike}
        )
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"This encoder cannot compute its states again: {error}",
            where="training.gradient_checkpointing in contlearn.toml",
            hint="Set it to false, and training.micro_batch_size lower.",
        ) from error
    try:
        yield
    finally:
        getattr(encoder, f"{kind}_checkpointing_disable")()


@dataclass(slots=True)
class FineTuningResult:
    """How a fine-tuning went; the model holds the best weights."""

    steps: int
    seconds: float
    best_epoch: int
    best_score: float | None
    history: list[dict[str, float]] = field(default_factory=list)
    samples: int = 0
    resumed_at: int = 0


class FineTuning:
    """Trains a model on new inputs and, in each epoch, on a fresh balanced draw of old ones.

    Args:
        model: What is trained; its parameters that need no gradient stay.
        data: New inputs first, then the old ones that may be shown again.
        new: How many of the inputs are new.
        keys: The balance key of each old input.
        replayed: How many old inputs an epoch shows.
        config: Rates, epochs, patience.
        loss: The criterion.
        augment: Gives the data of an epoch with some new texts changed; None changes nothing.
        measure: Gives the score of the model as it is, higher is better; None measures nothing,
            and the last weights are kept.
        work: Where the state is saved.
        fingerprint: Of everything that this training depends on.
        seed: Of all randomness in here.
        on_epoch: Told the scores of all epochs so far after each; what it raises ends the training.
    """

    def __init__(
        self,
        model: TextModel,
        data: EncodedSet,
        *,
        new: int,
        keys: Sequence[str],
        replayed: int,
        config: TrainingConfig,
        measure: Callable[[], float] | None,
        work: Path,
        fingerprint: str,
        seed: int,
        progress: Progress,
        loss: nn.Module | None = None,
        augment: Callable[[int], EncodedSet] | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self.model = model
        self.data = data
        self.new = new
        self.keys = keys
        self.replayed = replayed if keys else 0
        self.config = config
        self.measure = measure
        self.work = work
        self.fingerprint = fingerprint
        self.seed = seed
        self.progress = progress
        self.loss = loss or RowLoss(smoothing=config.label_smoothing)
        self.augment = augment
        self.on_epoch = on_epoch
        self.optimizer = make_optimizer(model, config)
        self.is_done = False
        self.result = FineTuningResult(steps=0, seconds=0.0, best_epoch=-1, best_score=None)
        self._durable: list[Any] = []
        self._generator = np.random.default_rng(seed)
        self._plan: list[list[int]] = []
        self._plan_state: dict[str, Any] = {}
        self._epoch = 0
        self._in_epoch = 0
        self._worse = 0
        self._losses: list[Tensor] = []
        self._started = 0.0
        self.total_steps = config.epochs * count_batches(
            new + self.replayed, batch_size=config.batch_size
        )
        self._schedule = make_schedule(config, self.total_steps)
        self._best = work / "best.safetensors"
        self._saved = latest_state(work, fingerprint)

    def run(self, *, plugins: Sequence[Any] = (), experiences_before: int = 0) -> FineTuningResult:
        """Train, or go on where a killed training stopped; leave the best weights in the model.

        Args:
            plugins: avalanche plugins.
            experiences_before: How many experiences the model has learnt before.
        """
        from contlearn.training.avalanche import bridge

        self._started = time.monotonic()
        self._durable = [p for p in plugins if hasattr(p, "state_tensors")]
        was_done = self._saved is not None and self._saved.facts["done"]
        # Plugins have work to do after the last step, which a kill may have prevented.
        if self.total_steps and (plugins or not was_done):
            strategy = bridge.make_strategy(
                self.model,
                self.optimizer,
                criterion=self.loss,
                batch_size=self.config.batch_size,
                epochs=self.config.epochs,
                micro_batch_size=self.config.micro_batch_size,
                plugins=plugins,
                loop=self,
                experiences_before=experiences_before,
                device=str(next(self.model.parameters()).device),
                half_precision=self.config.precision == "bf16",
            )
            with interruption.deferred():
                bridge.train(strategy, self.data, index=experiences_before)
        elif self._saved is not None:
            self._take_up(self._saved)
        # Always: the last weights are only the last.
        if self.result.best_score is not None and self._best.is_file():
            put_back(self.model, load_tensors(self._best))
        self.result.seconds = time.monotonic() - self._started
        self.model.eval()
        return self.result

    # -- what the bridge calls ------------------------------------------------------------------

    def start(self, strategy: Any) -> None:
        """Seed, or put everything back; then dropout and sampling go on as they would have."""
        seed_everything(self.seed)
        if self._saved is not None:
            self._take_up(self._saved)
            strategy.clock.train_iterations = self.result.steps
            self._saved.restore_random()

    def batches(self) -> Sequence[Sequence[int]]:
        """Plan the epoch, or take the rest of the one that was cut off."""
        if not self._plan:
            self._plan_epoch()
        return self._plan[self._in_epoch :]

    def inputs(self) -> EncodedSet:
        """Give what the epoch shows; the same whenever it is asked for."""
        return self.data if self.augment is None else self.augment(self._epoch)

    def new_inputs(self) -> list[bool]:
        """Say of each input of the batch at hand whether it is new."""
        return [i < self.new for i in self._plan[self._in_epoch]]

    def before_step(self) -> None:
        """Clip gradients and set the rate of every group."""
        torch.nn.utils.clip_grad_norm_(
            [p for group in self.optimizer.param_groups for p in group["params"]],
            self.config.max_gradient_norm,
        )
        factor = self._schedule(self.result.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def after_step(self, loss: Tensor) -> None:
        """Count, report, and save every now and then."""
        self.result.samples += len(self._plan[self._in_epoch])
        self.result.steps += 1
        self._in_epoch += 1
        self._losses.append(loss.detach().reshape(()))
        self.progress("training", self.result.steps, self.total_steps, f"epoch {self._epoch + 1}")
        is_asked = interruption.is_requested()
        if (is_asked or self.result.steps % self.config.checkpoint_steps == 0) and (
            self._in_epoch < len(self._plan)  # the end of an epoch saves anyway
        ):
            self._save()
            interruption.end_if_requested()

    def after_epoch(self) -> None:
        """Measure on the validation part, remember the best weights, save."""
        # One batch that is not a number spoils the mean, which is what must be seen.
        loss = float(torch.stack(self._losses).mean()) if self._losses else 0.0
        self._losses.clear()
        entry = {"epoch": float(self._epoch + 1), "loss": loss}
        self.result.history.append(entry)
        is_best = False
        if not np.isfinite(loss):
            self.is_done = True
        elif self.measure is not None:
            entry["score"] = self.measure()
            is_best = self._judge(entry["score"])
        self._epoch, self._in_epoch, self._plan = self._epoch + 1, 0, []
        self.is_done = self.is_done or self._epoch >= self.config.epochs
        self._save(same_weights=self._best if is_best else None)
        interruption.end_if_requested()
        if self.on_epoch is not None and self.measure is not None:
            self.on_epoch([item["score"] for item in self.result.history if "score" in item])

    # -- inside ---------------------------------------------------------------------------------

    def _judge(self, score: float) -> bool:
        """Keep the weights if no epoch was as good, and say so; else stop when patience is over."""
        best = self.result.best_score
        if best is None or score > best:
            self.result.best_score, self.result.best_epoch, self._worse = score, self._epoch, 0
            self.work.mkdir(parents=True, exist_ok=True)
            save_tensors(trained_tensors(self.model), self._best)
            return True
        self._worse += 1
        self.is_done = 0 < self.config.early_stopping_patience <= self._worse
        return False

    def _plan_epoch(self) -> None:
        """Take all new inputs and a balanced draw of old ones, in batches."""
        self._plan_state = dict(self._generator.bit_generator.state)
        chosen = list(range(self.new))
        if self.replayed:
            by_key: dict[str, list[int]] = {}
            for position in self._generator.permutation(len(self.keys)):
                by_key.setdefault(self.keys[position], []).append(self.new + int(position))
            rounds = _round_robin([by_key[key] for key in sorted(by_key)], self._generator)
            chosen.extend(next(rounds) for _ in range(self.replayed))
        self._plan = plan_epoch(
            self.data.lengths,
            chosen,
            batch_size=self.config.batch_size,
            generator=self._generator,
        )

    def _save(self, *, same_weights: Path | None = None) -> None:
        save_state(
            self.work,
            step=self.result.steps,
            fingerprint=self.fingerprint,
            model=self.model,
            optimizer=self.optimizer,
            is_last=self.is_done,
            same_weights=same_weights,
            plugins={
                f"{number}/{name}": tensor
                for number, plugin in enumerate(self._durable)
                for name, tensor in plugin.state_tensors().items()
            },
            facts={
                "epoch": self._epoch,
                "in_epoch": self._in_epoch,
                "plan_generator": self._plan_state if self._plan else None,
                "generator": self._generator.bit_generator.state,
                "worse": self._worse,
                "done": self.is_done,
                "best_epoch": self.result.best_epoch,
                "best_score": self.result.best_score,
                "history": self.result.history,
                "losses": [float(loss) for loss in self._losses],
                "samples": self.result.samples,
                "seconds": time.monotonic() - self._started,
            },
        )

    def _take_up(self, state: TrainingState) -> None:
        facts = state.facts
        state.restore(self.model, self.optimizer)
        kept = state.plugins()
        for number, plugin in enumerate(self._durable):
            own = {k.split("/", 1)[1]: v for k, v in kept.items() if k.startswith(f"{number}/")}
            plugin.load_state_tensors(own)
        self.result.steps = self.result.resumed_at = int(facts["step"])
        self.result.samples = int(facts["samples"])
        self.result.best_epoch = int(facts["best_epoch"])
        self.result.best_score = facts["best_score"]
        self.result.history = list(facts["history"])
        self._losses = [torch.tensor(loss) for loss in facts["losses"]]
        self._worse, self.is_done = int(facts["worse"]), bool(facts["done"])
        self._started -= float(facts["seconds"])
        self._epoch, self._in_epoch = int(facts["epoch"]), int(facts["in_epoch"])
        if facts["plan_generator"] is not None:
            # The plan of the epoch that was cut off is drawn again from where it began.
            self._generator.bit_generator.state = facts["plan_generator"]
            self._plan_epoch()
        self._generator.bit_generator.state = facts["generator"]


def expected_draws(keys: Sequence[str], draws: int) -> list[float]:
    """Say how often each old input is drawn in an epoch, in the mean.

    The draw takes from each key in turn, and begins again when all inputs were taken.

    Args:
        keys: The balance key of each input.
        draws: How many an epoch takes.
    Example:
        >>> expected_draws(["a", "a", "a", "a", "b"], 3)
        [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    sizes = Counter(keys)
    times, left = divmod(draws, len(keys)) if keys else (0, 0)
    taken = dict.fromkeys(sizes, 0.0)
    for depth in range(max(sizes.values(), default=0)):
        open_keys = [key for key, size in sizes.items() if size > depth]
        share = min(left / len(open_keys), 1.0)
        for key in open_keys:
            taken[key] += share
        left -= min(left, len(open_keys))
    return [times + taken[key] / sizes[key] for key in keys]


def _round_robin(groups: list[list[int]], generator: np.random.Generator) -> Iterator[int]:
    """Take from each group in turn, the groups in random order; begin again when all are used."""
    while True:
        for depth in range(max(len(group) for group in groups)):
            for position in generator.permutation(len(groups)):
                if depth < len(groups[position]):
                    yield groups[position][depth]
