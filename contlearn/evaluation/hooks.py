"""The built-in gate rules, registered through the hook that plugins use.

A rule is constructed with its checked options (`gate.rule_options.<name>` in contlearn.toml).
"""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl


@hookimpl
def contlearn_register_gate_rules() -> list[type]:
    """Give the gate rule classes."""
    from contlearn.evaluation.erosion import NoErosion
    from contlearn.evaluation.further_rules import (
        Calibration,
        ExactSign,
        LabelFloor,
        NegativeFlips,
        SliceFloor,
    )
    from contlearn.evaluation.rules import (
        Floor,
        Gain,
        MinimumEvidence,
        NoHarm,
        NoRegression,
    )
    from contlearn.evaluation.serving_rules import LabelAgreement, Latency, ModelSize, UnknownTokens
    from contlearn.evaluation.worth import Worth

    return [
        MinimumEvidence,
        NoRegression,
        NoHarm,
        Gain,
        Worth,
        NoErosion,
        Floor,
        ExactSign,
        LabelFloor,
        SliceFloor,
        NegativeFlips,
        Calibration,
        LabelAgreement,
        Latency,
        ModelSize,
        UnknownTokens,
    ]
