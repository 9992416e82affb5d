"""Fit a challenger: the one function that an update, a benchmark and a notebook call."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import HeadSpec, Progress, ReplayBuffer, Task, no_progress
from contlearn.plugins.manager import PluginManager
from contlearn.training.checks import check_buffer, check_learners, check_training
from contlearn.training.search import Found, OnEpoch, check_search, search_settings
from contlearn.training.state import DurableState, encoder_hash, record_bytes
from contlearn.training.withdrawn import NOTHING_WITHDRAWN, Withdrawn
from contlearn.types import Exemplar, Experience, LabelledRecord, LabelSpace, TrainingResult
from contlearn.workspace import read_json

if TYPE_CHECKING:
    from contlearn.modeling.checkpoint import Checkpoint
    from contlearn.training.regularizers.base import Regularizer
    from contlearn.training.session import FitSession, Learnt
    from contlearn.training.strategies.base import LearningStrategy

__all__ = ["FitRequest", "fit_challenger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """All that a fit depends on.

    Args:
        champion: The version folder to go on from; None begins from the base model.
        experience: The new records; its label space begins with the champion's.
        read_records: Gives the records with these ids; those that count no longer are left out.
        history: All records learnt before, for strategies that read them.
        withdrawn: What the champion has learnt and what counts no longer.
        left_out: Rows of the catalog that the state names as being in no sum.
        work: A folder for checkpoints; a fit that was killed goes on from there.
        output: Where `checkpoint/` and `state/` are written.
        unlabelled: A folder of texts without labels, for what learns from them.
    """

    task: Task
    manager: PluginManager
    model: ModelConfig
    training: TrainingConfig
    replay: ReplayConfig
    champion: Path | None
    experience: Experience
    read_records: Callable[[Sequence[str]], Sequence[LabelledRecord]]
    history: Sequence[LabelledRecord] = ()
    withdrawn: Withdrawn = NOTHING_WITHDRAWN
    left_out: Sequence[int] = ()
    work: Path
    output: Path
    unlabelled: Path | None = None


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
    request, searched = _choose_settings(request, report)
    done = _learn(request, report)
    done.buffer.add(_exemplars(request, _priorities(done)))
    report("saving", 0, 0, "saving the challenger")
    notes = _notes(request, done, searched)
    _write(request, done, searched["settings"] if searched else done.state.facts.get("search"))
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
    state: DurableState
    buffer: ReplayBuffer
    options: dict[str, Any]


def _learn(request: FitRequest, report: Progress, *, on_epoch: OnEpoch | None = None) -> _Done:
    """Let the strategy learn the experience; nothing is written but the saved training."""
    training, manager = request.training, request.manager
    strategy_class, options = manager.options(
        "strategy", training.strategy, training.strategy_options, where="training.strategy"
    )
    regularizers: list[Regularizer] = [
        kind(chosen)
        for kind, chosen in (
            manager.options(
                "regularizer",
                item.name,
                item.model_dump(exclude={"name"}),
                where=f"training.regularizers[{number}]",
            )
            for number, item in enumerate(training.regularizers)
        )
    ]
    report("loading", 0, 0, "loading the model")
    champion, space = request.champion, request.experience.label_space
    state = DurableState.load(None if champion is None else champion / "state", space)
    buffer = make_buffer(request, state)
    strategy: LearningStrategy = strategy_class(options)
    session = _make_session(request, state, buffer, strategy, regularizers, report)
    session.on_epoch = on_epoch
    learnt = strategy.learn(session)
    return _Done(session, learnt, state, buffer, options.model_dump(mode="json"))


def _choose_settings(
    request: FitRequest, report: Progress
) -> tuple[FitRequest, Mapping[str, Any] | None]:
    """Search for settings where that is configured; give what the search found, or None."""
    if not request.training.search.trials:
        return request, None
    found = _search(request, report)
    return replace(request, training=found.training, work=found.work), dict(found.notes)


def _search(request: FitRequest, report: Progress) -> Found:
    """Try settings on this experience, beginning with those that won before the champion."""
    champion = request.champion
    facts = {} if champion is None else read_json(champion / "state" / "state.json")

    def attempt(
        training: TrainingConfig, work: Path, on_epoch: OnEpoch, progress: Progress
    ) -> Mapping[str, Any]:
        trial = replace(request, training=training, work=work)
        return _learn(trial, progress, on_epoch=on_epoch).learnt.notes

    return search_settings(
        request.training,
        last=facts.get("search") or {},
        attempt=attempt,
        work=request.work,
        fingerprint=json.dumps(
            [
                request.experience.content_hash,
                request.model.model_dump(mode="json"),
                request.replay.model_dump(mode="json"),
                facts.get("encoder_sha256"),
                len(request.history),
                sorted(request.withdrawn.record_ids),
            ]
        ),
        progress=report,
    )


def make_buffer(request: FitRequest, state: DurableState) -> ReplayBuffer:
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
    trial = make_buffer(request, DurableState(buffer=buffer.state()))
    trial.add(_exemplars(request, {}))
    return frozenset(item.record_id for item in trial.items())


def _make_session(
    request: FitRequest,
    state: DurableState,
    buffer: ReplayBuffer,
    strategy: LearningStrategy,
    regularizers: Sequence[Regularizer],
    progress: Progress,
) -> FitSession:
    import torch

    from contlearn.modeling.checkpoint import load_checkpoint, new_checkpoint
    from contlearn.training.fine_tuning import seed_everything
    from contlearn.training.session import FitSession

    training, model = request.training, request.model
    seed_everything(training.seed)
    head = one_head(request.task)

    def fresh() -> Checkpoint:
        made = new_checkpoint(
            model.base,
            head=head,
            pooling=model.pooling,
            dropout=model.dropout,
        )
        _check_length(model, made.model.encoder)
        return made

    champion = request.champion
    checkpoint = fresh() if champion is None else load_checkpoint(champion / "checkpoint")
    _name_base(checkpoint, model.base)
    if not getattr(strategy, "begins_again", False):
        _check_length(model, checkpoint.model.encoder)
    checkpoint.model.head.grow(request.experience.label_space)
    checkpoint.model.dropout.p = model.dropout
    checkpoint.model.to("cuda" if torch.cuda.is_available() else "cpu")
    # A label that came again after it was superseded is new, and no exemplar until it is learnt.
    buffer.remove(request.withdrawn.record_ids)
    kept = [item.record_id for item in buffer.items()]
    found = {record.record_id: record for record in request.read_records(kept)} if kept else {}
    # What counts no longer or became held-out since is no exemplar any more.
    usable = {i for i, record in found.items() if record.split == "train"}
    buffer.remove(set(kept) - usable)
    new_ids = {record.record_id for record in request.experience.records}
    return FitSession(
        task=request.task,
        model=model,
        training=training,
        replay_ratio=request.replay.ratio,
        checkpoint=checkpoint,
        new_model=fresh,
        champion=champion,
        state=state,
        new=request.experience.records,
        old=[found[i] for i in kept if i in usable and i not in new_ids],
        history=[record for record in request.history if record.record_id not in new_ids],
        regularizers=regularizers,
        work=request.work,
        seed=training.seed,
        progress=progress,
        unlabelled=request.unlabelled,
        kept=_to_be_kept(request, buffer),
        withdrawn=request.withdrawn,
    )


def one_head(task: Task) -> HeadSpec:
    """Give the head of a task, without outputs yet.

    Raises:
        TrainingError: When it has several, or needs pieces of its own: nothing trains such here.
    """
    heads = task.heads(LabelSpace())
    if len(heads) != 1 or task.special_pieces() or task.family != "encoder":
        raise TrainingError(
            f"The task {task.name!r} has {len(heads)} heads, pieces {task.special_pieces()} of its "
            f"own, and the family {task.family!r}; one head on an encoder is what can be trained.",
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


def _notes(
    request: FitRequest, done: _Done, searched: Mapping[str, Any] | None
) -> dict[str, object]:
    """Give the facts of the learning for the version's report."""
    parameters = sum(p.numel() for p in done.session.model.parameters())
    warnings = _warnings(request.training, done.session)
    return {
        **done.learnt.notes,
        **({"search": searched} if searched else {}),
        "parameters": parameters,
        **({"warnings": warnings} if warnings else {}),
    }


def _warnings(training: TrainingConfig, session: FitSession) -> list[str]:
    """Say what may not be as it was meant, of the rates and of the texts that were learnt."""
    from contlearn.training.encoded import unread_notes
    from contlearn.training.optim import high_rate

    rate = high_rate(training)
    unread = unread_notes(
        session.new.data, session.task, max_tokens=session.model_config.max_tokens
    )
    return [*([rate] if rate else []), *unread]


def _write(request: FitRequest, done: _Done, winner: Mapping[str, Any] | None) -> None:
    """Write checkpoint and state; what a killed run left there goes first."""
    from contlearn.modeling.checkpoint import save_checkpoint

    session, learnt, before = done.session, done.learnt, done.state

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
        facts={
            "strategy": request.training.strategy,
            "base": session.checkpoint.base,
            "experience": request.experience.index,
            **({"search": dict(winner)} if winner else {}),
        },
    ).save(state)
    for regularizer in session.regularizers:
        target = state / "regularizers" / regularizer.name
        kept = before.folder / "regularizers" / regularizer.name if before.folder else None
        if learnt.encoder_changed and session.steps:
            regularizer.save(target, session.model)
        elif kept is not None and kept.is_dir():
            # The encoder is the champion's: so is what mattered in it.
            shutil.copytree(kept, target)
