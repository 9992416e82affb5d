"""The built-in gate rules, registered through the hook that plugins use.

A rule is constructed with its checked options (`gate.rule_options.<name>` in contlearn.toml).
"""

from __future__ import annotations

from contlearn.evaluation.further_rules import (
    Calibration,
    ExactSign,
    LabelAgreement,
    LabelFloor,
    ModelSize,
    NegativeFlips,
)
from contlearn.evaluation.rules import Floor, Gain, NoHarm, NoRegression
from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_gate_rules() -> list[type]:
    """Give the gate rule classes."""
    return [
        NoRegression,
        NoHarm,
        Gain,
        Floor,
        ExactSign,
        LabelFloor,
        NegativeFlips,
        Calibration,
        LabelAgreement,
        ModelSize,
    ]
