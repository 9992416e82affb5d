"""Fit a challenger: the one function that an update, a benchmark and a notebook call."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.config import ModelConfig, TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import HeadSpec, Progress, ReplayBuffer, Task, no_progress
from contlearn.tasks.heads import heads_problems
from contlearn.training.checks import check_buffer, check_learners, check_training
from contlearn.training.request import FitRequest
from contlearn.training.search import Found, OnEpoch, check_search, search_settings
from contlearn.training.state import DurableState, encoder_hash, record_bytes
from contlearn.types import Exemplar, LabelledRecord, LabelSpace, TrainingResult

if TYPE_CHECKING:
    from contlearn.modeling.checkpoint import Checkpoint
    from contlearn.training.regularizers.base import Regularizer
    from contlearn.training.session import FitSession, Learnt
    from contlearn.training.strategies.base import LearningStrategy

__all__ = ["FitRequest", "fit_challenger"]


def fit_challenger(request: FitRequest, *, progress: Progress | None = None) -> TrainingResult:
    """Learn an experience and write the challenger's checkpoint and state.

    The start is only read. A second call with the same request and work folder after a kill gives
    the same challenger, bit by bit.

    Raises:
        ConfigError: When the base model is not there, a method cannot be used like this, or a
            part needs more than the task gives.
        PluginError: When a strategy, a regulariser, a buffer or an option is not known.
        TrainingError: When nothing can be learnt from the records.
        RegistryError: When the champion's files are damaged.
        StorageError: When the disk is full.
    """
    started = time.monotonic()
    report = progress or no_progress
    check_training(request.training)
    check_learners(request.training, request.task, request.manager)
    check_buffer(request.replay, request.task, request.manager)
    check_search(request.training, request.manager)
    found = _search(request, report)
    if found is not None:
        request = replace(request, training=found.training, work=found.work)
    done = _learn(request, report)
    done.buffer.add(_exemplars(request, _priorities(done)))
    report("saving", 0, 0, "saving the challenger")
    notes = _notes(done, found)
    _write(request, done, found)
    return TrainingResult(
        checkpoint=request.output / "checkpoint",
        state=request.output / "state",
        label_space=done.session.space,
        strategy=request.training.strategy,
        options=done.options,
        steps=done.session.steps,
        seconds=time.monotonic() - started,
        seed=request.training.seed,
        calibration=done.learnt.calibration,
        trained_share=done.session.trained_share,
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """One learning: the session with the challenger in it, and what goes with it."""

    session: FitSession
    learnt: Learnt
    buffer: ReplayBuffer
    options: dict[str, Any]


def _learn(request: FitRequest, report: Progress, *, on_epoch: OnEpoch | None = None) -> _Done:
    """Let the strategy learn the experience; nothing is written but the saved training."""
    from contlearn.training.fine_tuning import seed_everything
    from contlearn.training.session import FitSession

    training, manager = request.training, request.manager
    strategy_class, options = manager.options(
        "strategy", training.strategy, training.strategy_options, where="training.strategy"
    )
    regularizers: list[Regularizer] = []
    for number, item in enumerate(training.regularizers):
        kind, chosen = manager.options(
            "regularizer",
            item.name,
            item.model_dump(exclude={"name"}),
            where=f"training.regularizers[{number}]",
        )
        regularizers.append(kind(chosen))
    report("loading", 0, 0, "loading the model")
    strategy: LearningStrategy = strategy_class(options)
    state = _state_before(request)
    buffer = _make_buffer(request, state)
    old = _read_exemplars(request, buffer)
    seed_everything(training.seed)
    session = FitSession(
        request,
        checkpoint=_load_model(request, strategy),
        new_model=partial(_fresh_model, request),
        state=state,
        old=old,
        kept=_to_be_kept(request, buffer),
        regularizers=regularizers,
        progress=report,
        on_epoch=on_epoch,
    )
    learnt = strategy.learn(session)
    return _Done(session, learnt, buffer, options.model_dump(mode="json"))


def _search(request: FitRequest, report: Progress) -> Found | None:
    """Try settings on this experience, beginning with those that won before the champion.

    Returns:
        What was found; None where no search is configured.
    """
    if not request.training.search.trials:
        return None
    before = _state_before(request)

    def attempt(
        training: TrainingConfig, work: Path, on_epoch: OnEpoch, progress: Progress
    ) -> Mapping[str, Any]:
        trial = replace(request, training=training, work=work)
        return _learn(trial, progress, on_epoch=on_epoch).learnt.notes

    return search_settings(
        request.training,
        last=before.search,
        attempt=attempt,
        work=request.work,
        fingerprint=json.dumps(
            [
                request.experience.content_hash,
                request.model.model_dump(mode="json"),
                request.replay.model_dump(mode="json"),
                before.encoder_sha256 or None,
                len(request.history),
                sorted(request.withdrawn.record_ids),
            ]
        ),
        progress=report,
    )


def _state_before(request: FitRequest) -> DurableState:
    """Read the champion's state, with room for the new labels."""
    folder = None if request.champion is None else request.champion / "state"
    return DurableState.load(folder, request.experience.label_space)


def _make_buffer(request: FitRequest, state: DurableState) -> ReplayBuffer:
    """Make the configured buffer and put the champion's state into it."""
    replay = request.replay
    kind: type[ReplayBuffer] = request.manager.get("buffer", replay.policy, where="replay.policy")
    buffer = kind(
        capacity_records=replay.capacity_records,
        capacity_bytes=replay.capacity_bytes,
        records_per_label=replay.records_per_label,
        seed=request.training.seed,
    )
    if state.buffer is not None:
        buffer.load_state(state.buffer)
    return buffer


def _exemplars(request: FitRequest, priorities: Mapping[str, float]) -> Iterator[Exemplar]:
    """Give the new records as they are offered to the buffer."""
    for record in request.experience.records:
        yield Exemplar(
            record_id=record.record_id,
            key=request.task.balance_key(record.target),
            size_bytes=record_bytes(record),
            priority=priorities.get(record.record_id, 0.0),
        )


def _to_be_kept(request: FitRequest, buffer: ReplayBuffer) -> frozenset[str]:
    """Say which records the buffer will keep; where the model's view decides, only a guess."""
    trial = _make_buffer(request, DurableState(buffer=buffer.state()))
    trial.add(_exemplars(request, {}))
    return frozenset(item.record_id for item in trial.items())


def _read_exemplars(request: FitRequest, buffer: ReplayBuffer) -> list[LabelledRecord]:
    """Give the records of the buffer that still count; the others leave it."""
    # A label that came again after it was superseded is new, and no exemplar until it is learnt.
    buffer.remove(request.withdrawn.record_ids)
    kept = [item.record_id for item in buffer.items()]
    found = {record.record_id: record for record in request.read_records(kept)} if kept else {}
    # What counts no longer or became held-out since is no exemplar any more.
    usable = {i: record for i, record in found.items() if record.split == "train"}
    buffer.remove(set(kept) - usable.keys())
    return [usable[i] for i in kept if i in usable]


def _load_model(request: FitRequest, strategy: LearningStrategy) -> Checkpoint:
    """Give the champion's model with room for the new labels, or a fresh one."""
    import torch

    from contlearn.modeling.checkpoint import load_checkpoint

    model, champion = request.model, request.champion
    checkpoint = (
        _fresh_model(request) if champion is None else load_checkpoint(champion / "checkpoint")
    )
    _name_base(checkpoint, model.base)
    if not getattr(strategy, "begins_again", False):
        _check_length(model, checkpoint.model.encoder)
    checkpoint.model.head.grow(request.experience.label_space)
    checkpoint.model.dropout.p = model.dropout
    checkpoint.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return checkpoint


def _fresh_model(request: FitRequest) -> Checkpoint:
    """Make a model from the base model, with a head without outputs."""
    from contlearn.modeling.checkpoint import new_checkpoint

    model = request.model
    made = new_checkpoint(
        model.base, head=one_head(request.task), pooling=model.pooling, dropout=model.dropout
    )
    _check_length(model, made.model.encoder)
    return made


def one_head(task: Task) -> HeadSpec:
    """Give the head of a task, without outputs yet.

    Raises:
        TrainingError: When nothing trains such here.
    """
    heads = task.heads(LabelSpace())
    problems = heads_problems(task, heads)
    if problems:
        raise TrainingError(
            f"The task {task.name!r} cannot be trained. {' '.join(problems)}",
            where="model.task in contlearn.toml",
            hint="Choose another task.",
        )
    return replace(heads[0], outputs=LabelSpace())


def _name_base(checkpoint: Checkpoint, name: str) -> None:
    """Call the base model as the configuration does, where that has the very same files."""
    from contlearn.modeling.base_check import base_fingerprint
    from contlearn.modeling.base_models import local_folder

    if name != checkpoint.base and checkpoint.base_sha256 is not None:
        folder = local_folder(name)
        if folder is not None and base_fingerprint(folder) == checkpoint.base_sha256:
            checkpoint.base = name


def _check_length(model: ModelConfig, encoder: Any) -> None:
    """Refuse longer texts than an encoder that will learn can read."""
    from contlearn.modeling.additions import addition_of
    from contlearn.modeling.checkpoint import position_limit

    limit, addition = position_limit(encoder), addition_of(encoder)
    if limit is not None and model.max_tokens > limit:
        places = 0 if addition is None else addition.places
        behind = f" behind the {places} trained vectors that the champion carries" if places else ""
        raise ConfigError(
            f"model.max_tokens is {model.max_tokens}, but the base model {model.base} reads at "
            f"most {limit} tokens{behind}.",
            where="model.max_tokens in contlearn.toml",
            hint=f"Set it to {limit} or less, or choose a base model that reads longer texts.",
        )


def _priorities(done: _Done) -> Mapping[str, float]:
    """Give the model's view of the new records, where the buffer chooses by it."""
    from contlearn.training.priorities import record_priorities

    priority = str(getattr(done.buffer, "priority", ""))
    return record_priorities(done.session, priority) if priority else {}


def _notes(done: _Done, found: Found | None) -> dict[str, object]:
    """Give the facts of the learning for the version's report."""
    parameters = sum(p.numel() for p in done.session.model.parameters())
    warnings = _warnings(done.session)
    return {
        **done.learnt.notes,
        **({"search": dict(found.notes)} if found else {}),
        "parameters": parameters,
        **({"warnings": warnings} if warnings else {}),
    }


def _warnings(session: FitSession) -> list[str]:
    """Say what may not be as it was meant, of the rates and of the texts that were learnt."""
    from contlearn.training.encoded import unread_notes
    from contlearn.training.optim import high_rate

    rate = high_rate(session.config)
    unread = unread_notes(
        session.new.data, session.task, max_tokens=session.model_config.max_tokens
    )
    return [*([rate] if rate else []), *unread]


def _write(request: FitRequest, done: _Done, found: Found | None) -> None:
    """Write checkpoint and state; what a killed run left there goes first."""
    from contlearn.modeling.checkpoint import save_checkpoint

    session, learnt, before = done.session, done.learnt, done.session.state
    for name in ("checkpoint", "state"):
        shutil.rmtree(request.output / name, ignore_errors=True)
    session.model.eval()
    save_checkpoint(session.checkpoint, request.output / "checkpoint")
    state = request.output / "state"
    kept_ids = tuple(item.record_id for item in done.buffer.items())
    DurableState(
        experiences=before.experiences + 1,
        records_seen=before.records_seen + len(request.experience.records),
        encoder_sha256=encoder_hash(session.model.encoder),
        buffer=done.buffer.state(),
        kept=kept_ids,
        statistics=learnt.statistics,
        unseen=session.unseen(kept_ids),
        left_out=frozenset(request.left_out),
        strategy=request.training.strategy,
        base=session.checkpoint.base,
        experience=request.experience.index,
        search=before.search if found is None else found.notes["settings"],
    ).save(state)
    for regularizer in session.regularizers:
        target = state / "regularizers" / regularizer.name
        kept = before.folder / "regularizers" / regularizer.name if before.folder else None
        if learnt.encoder_changed and session.steps:
            regularizer.save(target, session.model)
        elif kept is not None and kept.is_dir():
            # The encoder is the champion's: so is what mattered in it.
            shutil.copytree(kept, target)
