"""What is compared: a strategy, regularisers upon it, a training method, other settings."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError, UsageError
from contlearn.plugins.manager import PluginManager

__all__ = ["ALWAYS", "RATES", "TUNED", "Spec", "parse_spec"]

TUNED: Final = "naive-tuned"
# What stands in every comparison: the least, the least tuned, two references, the default.
ALWAYS: Final = ("naive", TUNED, "frozen-head", "joint", "replay")
# Learning rates that the tuned one chooses among, on development rows.
RATES: Final = (1e-5, 5e-5, 2e-4)
_FORM: Final = re.compile(r"([a-z0-9-]+)((?:\+[a-z0-9-]+)*)(?:@([a-z0-9-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One row of the comparison: its name, and what it changes in [training]."""

    name: str
    strategy: str
    training: Mapping[str, Any] = field(default_factory=dict)
    reads_history: bool = False

    def key(self, **facts: object) -> str:
        """Identify a run of this spec under further facts."""
        value = [self.strategy, dict(self.training), facts]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def config(self, base: TrainingConfig, *, seed: int) -> TrainingConfig:
        """Put the changes upon a [training] section."""
        own = base.model_dump(mode="json")
        if self.strategy != base.strategy:
            own["strategy_options"] = {}
        return TrainingConfig.model_validate(
            {**own, "strategy": self.strategy, **self.training, "seed": seed}
        )

    def with_rate(self, rate: float) -> Spec:
        """Give the same with another learning rate."""
        return replace(self, training={**self.training, "learning_rate": rate})


def parse_spec(
    text: str, *, manager: PluginManager, settings: Mapping[str, Any] | None = None
) -> Spec:
    """Read "strategy+regulariser@method": "er+er-ace", "naive+lwf@lora", or just "er".

    A regulariser's name alone stands upon naive, or upon er where exemplars must be shown.

    Raises:
        UsageError: When the form is wrong, or the first name is not known.
        PluginError: When the name of a further regulariser is not known.
        ConfigError: When a method is not known, or a setting is wrong.
    """
    from contlearn.training.checks import check_method

    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is no strategy.",
            where="--strategy",
            hint="Write strategy, strategy+regulariser, or strategy@method: er+er-ace@lora.",
        )
    first, more, method = found[1], [p for p in found[2].split("+") if p], found[3]
    strategy = "naive" if first == TUNED else first
    if strategy not in manager.table("strategy") and strategy in manager.table("regularizer"):
        more, strategy = [strategy, *more], "er" if strategy == "er-ace" else "naive"
    _check_name(strategy, manager)
    implementation = manager.get("strategy", strategy, where="--strategy")
    for name in more:
        manager.options("regularizer", name, {}, where="--strategy")
    training: dict[str, Any] = dict(settings or {})
    # A bare spec takes the regularisers, the method and the search away that the workspace has
    # configured: what is compared is what its name says.
    training.setdefault("search", {})
    training.setdefault("regularizers", [{"name": name} for name in more])
    training.setdefault("method", method or "full")
    training.setdefault("method_options", {})
    try:
        check_method(str(training["method"]), dict(training["method_options"]))
    except ConfigError as error:
        # The name comes from the command line, not from contlearn.toml.
        where = "--strategy" if method else "--set"
        raise ConfigError(error.what, where=where, hint=error.hint) from error
    spec = Spec(
        name=text,
        strategy=strategy,
        training=training,
        reads_history=bool(implementation.reads_history),
    )
    try:
        spec.config(TrainingConfig(), seed=0)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key, message = ".".join(map(str, problem["loc"])), str(problem["msg"])
        hint = "`contlearn config schema` shows the keys of [training]."
        if problem["type"] == "extra_forbidden":
            message = "there is no such key"
            near = difflib.get_close_matches(key, TrainingConfig.model_fields, n=1, cutoff=0.6)
            hint = (f"Did you mean {near[0]}? " if near else "") + hint
        raise ConfigError(f"{text}: {key}: {message}.", where="--set", hint=hint) from error
    return spec


def _check_name(name: str, manager: PluginManager) -> None:
    """Say which strategy or regulariser was meant, for either can stand first."""
    strategies, regularizers = (
        sorted(manager.table("strategy")),
        sorted(manager.table("regularizer")),
    )
    if name in strategies:
        return
    near = difflib.get_close_matches(name, [*strategies, *regularizers, TUNED], n=1, cutoff=0.6)
    raise UsageError(
        f"There is no strategy or regulariser {name!r}.",
        where="--strategy",
        hint=(f"Did you mean {near[0]!r}? " if near else "")
        + f"Strategies: {', '.join(strategies)}. Regularisers: {', '.join(regularizers)}.",
    )
