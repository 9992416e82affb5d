"""Settings tried before an update: the last winner first, then what a sampler proposes.

```
<work>/search/trials.jsonl     one line a finished trial; the first says what the trials belong to
<work>/search/trial-<digest>/  the saved training of a trial; the update goes on in the winner's
```
A trial learns the training records exactly as the update would and is scored on the records that
training sets aside anyway. Held-out records are not at hand, so no trial can see them.

A search that was killed asks the sampler again from the beginning: with the same seed and the same
answers it proposes the same settings, and trials in the journal are answered from there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from contlearn.config import RangeConfig, SearchConfig, TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import Progress
from contlearn.plugins.manager import PluginManager
from contlearn.training.checks import check_method
from contlearn.training.trials import Journal, Trial

if TYPE_CHECKING:
    import optuna

__all__ = ["Found", "OnEpoch", "check_search", "score_of", "search_settings"]

# Called after each epoch with the scores of all epochs so far; may end the training.
OnEpoch: TypeAlias = Callable[[Sequence[float]], None]
# Learns with these settings in this folder and gives the notes of what was learnt.
Attempt: TypeAlias = Callable[[TrainingConfig, Path, OnEpoch, Progress], Mapping[str, Any]]

_WHERE: Final = "training.search in contlearn.toml"
# So many trials run to their end before one may be cut short.
_UNCUT: Final = 2
# Full fine-tuning at 1e-4 and more destroys what an encoder knows (`optim.high_rate`).
_HIGHEST_FULL_RATE: Final = 9e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found: the settings to use, the folder to go on in, and facts for the notes."""

    training: TrainingConfig
    work: Path
    notes: Mapping[str, Any]


class _CutShortError(Exception):
    """The trial at hand does worse than most did at this epoch; never leaves this module."""


def check_search(training: TrainingConfig, manager: PluginManager) -> None:
    """Check that a search can run, before any model is loaded.

    Raises:
        ConfigError: When Optuna is not installed, or the training method refuses an option.
        PluginError: When the strategy refuses one.
    """
    if not training.search.trials:
        return
    if importlib.util.find_spec("optuna") is None:  # importing it takes half a second
        raise _missing()
    for key, values in training.search.space.items():
        for value in (values.low, values.high) if isinstance(values, RangeConfig) else values:
            tried = training.with_settings({key: value})
            check_method(tried.method, tried.method_options)
            manager.options(
                "strategy",
                tried.strategy,
                tried.strategy_options,
                where=f"training.search.space.{key}",
            )


def search_settings(
    training: TrainingConfig,
    *,
    last: Mapping[str, Any],
    attempt: Attempt,
    work: Path,
    fingerprint: str,
    progress: Progress,
) -> Found:
    """Try settings, and give the best; of equal ones the earliest, so the last winner stays.

    Args:
        training: As configured, with its search.
        last: The settings that won before the last update; empty for none.
        attempt: Learns once.
        work: The update's work folder.
        fingerprint: Of everything that the trials depend on besides `training`.
        progress: Told which trial runs.
    Raises:
        ConfigError: When Optuna is not installed.
        TrainingError: When every trial failed.
    """
    folder = work / "search"
    digest = hashlib.sha256(f"{fingerprint}:{training.model_dump_json()}".encode()).hexdigest()
    journal = Journal(folder / "trials.jsonl", digest)
    journal.load()
    space = _space(training)
    study = _study(training)
    configured = _configured(training, space)
    first = {**configured, **_inside(last, space)}
    for settings in (first, configured):
        if settings:
            study.enqueue_trial(settings, skip_if_exists=True)
    limit = 60 * training.search.minutes
    known = tuple(journal.trials)
    stopped = ""
    for number in range(training.search.trials):
        spent = sum(trial.seconds for trial in journal.trials)
        if number >= len(known) and number and limit and spent >= limit:
            stopped = f"the limit of {training.search.minutes:g} min was reached"
            break
        asked = study.ask()
        settings = _suggested(asked, space)
        if number < len(known) and known[number].settings == settings:
            trial = known[number]
        else:
            total = training.search.trials
            trial = _run(
                asked, settings, training, attempt, folder, _named(progress, number, total)
            )
            journal.add(trial)
            # Only now: what a kill left of a trial is gone on with.
            _remove_losers(journal.trials, folder)
        _tell(study, asked, trial)
        if trial.state == "done" and trial.score is None:
            stopped = "no records were set aside to choose by, or nothing is fine-tuned"
            # What the sampler added to the first trial was never compared with anything.
            journal.trials[:] = [replace(trial, settings=first)]
            break
    return _found(training, last, journal.trials, folder, stopped)


def score_of(notes: Mapping[str, Any]) -> float | None:
    """Give the score on records set aside that a strategy's notes tell; None without such records.

    A choice between candidates was made before its records went into the head, so it is clean.
    """
    choice = notes.get("choice")
    if choice and choice.get("validation_rows"):
        return float(choice["validation"][choice["chosen"]])
    score = (notes.get("fine_tuning") or {}).get("best_score")
    return None if score is None or choice else float(score)


# -- inside -------------------------------------------------------------------------------------


def _missing() -> ConfigError:
    return ConfigError(
        "A search for settings needs Optuna, which is not installed.",
        where=_WHERE,
        hint='Run `pip install "contlearn[search]"`, or set training.search.trials = 0.',
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise _missing() from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(training: TrainingConfig) -> optuna.Study:
    library = _optuna()
    search: SearchConfig = training.search
    pruners = library.pruners
    study: optuna.Study = library.create_study(
        direction="maximize",
        sampler=library.samplers.TPESampler(
            seed=training.seed, n_startup_trials=max(3, search.trials // 3)
        ),
        pruner=pruners.MedianPruner(n_startup_trials=_UNCUT)
        if search.prune
        else pruners.NopPruner(),
    )
    return study


def _space(training: TrainingConfig) -> dict[str, RangeConfig | tuple[Any, ...]]:
    """Give the configured space, or the learning rates around the method's own."""
    if training.search.space:
        return dict(training.search.space)
    from contlearn.training.optim import resolved

    rate = resolved(training.model_copy(update={"learning_rate": 0.0})).learning_rate
    high = _HIGHEST_FULL_RATE if training.method == "full" else 5 * rate
    return {"learning_rate": RangeConfig(low=rate / 5, high=high, log=True)}


def _configured(training: TrainingConfig, space: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the configuration has for the keys of the space, or the nearest that is allowed.

    A key that it does not have, such as an option left at its default, is left to the sampler.
    """
    from contlearn.training.optim import resolved

    own = resolved(training).model_dump()
    found = {}
    for key in space:
        section, _, option = key.rpartition(".")
        values = own[section] if section else own
        if option in values:
            found[key] = _nearest(values[option], space[key])
    return found


def _nearest(value: Any, values: RangeConfig | tuple[Any, ...]) -> Any:
    if isinstance(values, RangeConfig):
        return (
            min(max(value, values.low), values.high)
            if isinstance(value, int | float)
            else values.low
        )
    return value if value in values else values[0]


def _inside(settings: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the space allows: it may have changed since."""
    found = {}
    for key, value in settings.items():
        values = space.get(key)
        if isinstance(values, RangeConfig):
            if isinstance(value, int | float) and values.low <= value <= values.high:
                found[key] = value
        elif values is not None and value in values:
            found[key] = value
    return found


def _suggested(asked: optuna.Trial, space: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, values in space.items():
        if not isinstance(values, RangeConfig):
            found[key] = asked.suggest_categorical(key, values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[key] = asked.suggest_int(key, values.low, values.high, log=values.log)
        else:
            value = asked.suggest_float(key, values.low, values.high, log=values.log)
            # Three digits say enough, and can be read.
            found[key] = min(max(float(f"{value:.3g}"), values.low), values.high)
    return found


def _named(progress: Progress, number: int, total: int) -> Progress:
    def send(stage: str, done: int, steps: int, message: str) -> None:
        progress(stage, done, steps, f"trial {number + 1} of {total}: {message or stage}")

    return send


def _folder_of(settings: Mapping[str, Any], folder: Path) -> Path:
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()
    return folder / f"trial-{digest[:16]}"


def _run(
    asked: optuna.Trial,
    settings: dict[str, Any],
    training: TrainingConfig,
    attempt: Attempt,
    folder: Path,
    progress: Progress,
) -> Trial:
    started = time.monotonic()
    seen: list[float] = []

    def on_epoch(scores: Sequence[float]) -> None:
        for step in range(len(seen), len(scores)):
            seen.append(scores[step])
            asked.report(scores[step], step)
            if asked.should_prune():
                raise _CutShortError

    state, score, problem = "done", None, ""
    try:
        notes = attempt(
            training.with_settings(settings), _folder_of(settings, folder), on_epoch, progress
        )
        score = score_of(notes)
    except _CutShortError:
        state = "cut short"
    except TrainingError as error:
        state, problem = "failed", str(error)
    seconds = round(time.monotonic() - started, 6)
    return Trial(settings, state, score, seen, seconds, problem)


def _tell(study: optuna.Study, asked: optuna.Trial, trial: Trial) -> None:
    states = _optuna().trial.TrialState
    reported = study.trials[asked.number].intermediate_values
    for step, score in enumerate(trial.epochs):
        if step not in reported:  # from the journal
            asked.report(score, step)
    if trial.state == "done" and trial.score is not None:
        study.tell(asked, trial.score)
    else:
        study.tell(asked, state=states.PRUNED if trial.state == "cut short" else states.FAIL)


def _best(trials: Sequence[Trial]) -> Trial | None:
    done = [trial for trial in trials if trial.state == "done"]
    return max(done, key=lambda t: -1.0 if t.score is None else t.score, default=None)


def _remove_losers(trials: Sequence[Trial], folder: Path) -> None:
    """Keep the saved training of the best only: a search must not fill the disk."""
    best = _best(trials)
    kept = None if best is None else _folder_of(best.settings, folder)
    for path in folder.glob("trial-*"):
        if path != kept:
            shutil.rmtree(path, ignore_errors=True)


def _found(
    training: TrainingConfig,
    last: Mapping[str, Any],
    trials: Sequence[Trial],
    folder: Path,
    stopped: str,
) -> Found:
    best = _best(trials)
    if best is None:
        raise TrainingError(
            f"None of the {len(trials)} trials came to its end: {trials[-1].problem}",
            where=_WHERE,
            hint="Choose a narrower training.search.space.",
        )
    notes: dict[str, Any] = {
        "trials": len(trials),
        "cut_short": sum(trial.state == "cut short" for trial in trials),
        "failed": sum(trial.state == "failed" for trial in trials),
        "seconds": round(sum(trial.seconds for trial in trials), 3),
        "settings": best.settings,
        "score": best.score,
        "first_settings": trials[0].settings,
        "first_score": trials[0].score,
        "began_with_last_winner": bool(last),
        "stopped": stopped,
    }
    return Found(
        training=training.with_settings(best.settings),
        work=_folder_of(best.settings, folder),
        notes=notes,
    )
