"""The gate: every rule judges, every outcome is kept, one refusal refuses.

A rule that finds a challenger not worth the change (`RuleOutcome.keeps`) refuses nothing: the
champion stays, and the records are learnt together with what comes next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from contlearn.errors import ConfigError, EvaluationError
from contlearn.evaluation.evidence import new_sets, short_evidence_warning
from contlearn.interfaces import GateEvidence, GateRule
from contlearn.types import CHANCE_OF_LOSS, PromotionDecision, RuleOutcome

if TYPE_CHECKING:
    from contlearn.config import GateConfig
    from contlearn.plugins.manager import PluginManager

__all__ = ["decide", "make_rules"]

# Draws that must lie beyond a bound, so that it is more than the luck of the last one.
_LEAST_BEYOND: Final = 5


def decide(
    evidence: GateEvidence,
    manager: PluginManager,
    *,
    champion: int | None = None,
    challenger: int | None = None,
) -> PromotionDecision:
    """Let every configured rule judge.

    The challenger is promoted when no rule refuses or finds it not worth the change, and at least
    one was able to judge. A refusal weighs more than a change that is not worth it.

    Args:
        evidence: Paired scores and the configuration in force.
        manager: Knows the rules.
        champion: Its number, for the record.
        challenger: Its number, where it has one already.
    Raises:
        ConfigError: When no rule is configured: an empty gate would let everything pass.
        PluginError: When a rule or one of its options is not known.
        EvaluationError: When a rule did not answer.
    """
    rules = make_rules(evidence.config, manager)
    outcomes: list[RuleOutcome] = []
    for name, rule in rules:
        judged = tuple(rule.judge(evidence))
        if not judged:
            raise EvaluationError(
                f"The gate rule {name!r} gave no outcome.",
                where=f"gate rule {name}",
                hint="A rule that does not apply says so with passed = None.",
            )
        outcomes.extend(judged)
    passed = [outcome.passed for outcome in outcomes]
    warning = short_evidence_warning(evidence)
    # Few rows are no cause for alarm where a rule with a stated error was passed on them.
    is_cleared = any(one.passed and one.measure == CHANCE_OF_LOSS for one in outcomes)
    warnings = [warning] if warning and not is_cleared else []
    if not new_sets(evidence):
        warnings.append("The new records have no held-out row; nothing is known about them.")
    if True not in passed and False not in passed:
        warnings.append("No rule was able to judge, so nothing speaks for the challenger.")
    return PromotionDecision(
        champion=champion,
        challenger=challenger,
        promoted=False not in passed and True in passed,
        outcomes=tuple(outcomes),
        warnings=tuple(warnings),
    )


def make_rules(config: GateConfig, manager: PluginManager) -> list[tuple[str, GateRule]]:
    """Make every configured rule with its options; what is missing is an error, never a pass.

    Raises:
        ConfigError: When no rule is configured, or options belong to none.
        PluginError: When a rule or one of its options is not known, or a limit is missing.
    """
    names = tuple(config.rules)
    if not names:
        raise ConfigError(
            "gate.rules is empty: every challenger would be promoted unseen.",
            where="gate.rules in contlearn.toml",
            hint="Leave the key out for the default rules.",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"gate.rules names {', '.join(twice)} twice.",
            where="gate.rules in contlearn.toml",
            hint="Name each rule once.",
        )
    unused = sorted(set(config.rule_options) - set(names))
    if unused:
        raise ConfigError(
            f"gate.rule_options has options for {', '.join(unused)}, which gate.rules does not "
            "name.",
            where="gate.rule_options in contlearn.toml",
            hint="Name the rule in gate.rules, or take its options out.",
        )
    _refuse_contradictions(config)
    # All rules are made before the first judges: a wrong option is found at once.
    rules = []
    for name in names:
        implementation, options = manager.options(
            "gate rule",
            name,
            config.rule_options.get(name, {}),
            where=f"gate.rule_options.{name}",
        )
        rules.append((name, implementation(options)))
    return rules


def _refuse_contradictions(config: GateConfig) -> None:
    """Refuse keys that no rule would heed: who set them believes that they hold."""
    defaults = type(config).model_fields
    heeded = (
        ("min_gain", config.min_gain > 0.0, ("gain",)),
        ("new_weight", config.new_weight != defaults["new_weight"].default, ("worth",)),
        (
            "worth_confidence",
            config.worth_confidence != defaults["worth_confidence"].default,
            ("worth",),
        ),
        (
            "chance_of_loss",
            config.chance_of_loss != defaults["chance_of_loss"].default,
            ("no-regression",),
        ),
        (
            "short_evidence",
            config.short_evidence == "refuse",
            ("minimum-evidence", "no-regression", "gain", "floor"),
        ),
    )
    for key, is_set, by in heeded:
        if is_set and not set(by) & set(config.rules):
            raise ConfigError(
                f"gate.{key} is set, and no rule in gate.rules heeds it.",
                where=f"gate.{key} in contlearn.toml",
                hint=f"Name {' or '.join(by)} in gate.rules, or leave the key out.",
            )
    if config.short_evidence != "chance" and (
        config.chance_of_loss != defaults["chance_of_loss"].default
    ):
        raise ConfigError(
            f"gate.chance_of_loss is set, and gate.short_evidence = "
            f"{config.short_evidence!r} does not go by it.",
            where="gate.chance_of_loss in contlearn.toml",
            hint='Set gate.short_evidence = "chance", or leave the key out.',
        )
    if config.reserve_rows < config.min_evidence_rows:
        raise ConfigError(
            f"gate.reserve_rows = {config.reserve_rows} are fewer than gate.min_evidence_rows = "
            f"{config.min_evidence_rows}: there would never be enough.",
            where="gate.reserve_rows in contlearn.toml",
            hint="Measure on more rows, or ask for fewer.",
        )
    least = math.ceil(_LEAST_BEYOND / (1.0 - config.confidence) - 1e-6)
    if config.resamples < least:
        raise ConfigError(
            f"gate.resamples = {config.resamples} are too few for gate.confidence = "
            f"{config.confidence:g}: fewer than {_LEAST_BEYOND} draws lie beyond the bound.",
            where="gate.resamples in contlearn.toml",
            hint=f"Draw at least {least} times, or ask for less confidence.",
        )
