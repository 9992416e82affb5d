"""What is compared: a strategy, regularisers upon it, a training method, other settings."""

from __future__ import annotations

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
        UsageError: When the form is wrong.
        PluginError: When a name is not known.
        ConfigError: When a method is not known, or a setting is wrong.
    """
    from contlearn.training.checks import check_method_name

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
    implementation = manager.get("strategy", strategy, where="--strategy")
    for name in more:
        manager.options("regularizer", name, {}, where="--strategy")
    training: dict[str, Any] = dict(settings or {})
    # A bare spec takes the regularisers and the method away that the workspace has configured.
    training.setdefault("regularizers", [{"name": name} for name in more])
    training.setdefault("method", method or "full")
    training.setdefault("method_options", {})
    check_method_name(str(training["method"]), dict(training["method_options"]))
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
        raise ConfigError(
            f"{text}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}.",
            where="--set",
            hint="`contlearn config schema` shows the keys of [training].",
        ) from error
    return spec
