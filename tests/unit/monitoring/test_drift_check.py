from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from contlearn.errors import EvaluationError
from contlearn.monitoring.detectors import (
    ClassifierTest,
    KernelTest,
    KolmogorovSmirnov,
    LabelShares,
    Sample,
)
from contlearn.monitoring.drift_check import DriftCheck, check_log, holm, sample_of
from contlearn.monitoring.prediction_log import LoggedPrediction, PredictionLog


def draw(generator, count, *, shift=0.0, spread=1.0, weights=(0.5, 0.3, 0.2), length=40.0):
    """Synthetic predictions: Gaussian embeddings, three labels, lengths."""
    return Sample(
        generator.normal(shift, spread, (count, 8)),
        {
            "characters": np.round(generator.gamma(4.0, length / 4, count)),
            "confidence": generator.beta(5, 2, count),
        },
        generator.choice(["a", "b", "c"], count, p=weights).tolist(),
    )


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def test_kolmogorov_smirnov_agrees_with_scipy(generator):
    reference, window = draw(generator, 900), draw(generator, 250, length=47)
    finding = KolmogorovSmirnov(reference, "confidence", target="prediction").judge(window)
    expected = stats.ks_2samp(reference.numbers["confidence"], window.numbers["confidence"])
    assert finding.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert finding.p_value == pytest.approx(expected.pvalue, rel=0.15)


def test_kernel_test_agrees_with_its_definition_on_a_small_case(generator):
    reference, window = draw(generator, 30), draw(generator, 12)
    test = KernelTest(reference)
    x, y = reference.projections, window.projections

    def kernel(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / test._width)

    def mean_off(k):
        return (k.sum() - len(k)) / (len(k) * (len(k) - 1))

    expected = mean_off(kernel(x, x)) + mean_off(kernel(y, y)) - 2 * kernel(x, y).mean()
    assert test.judge(window).statistic == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "sees"),
    [
        ({"shift": 0.4}, {"mmd", "classifier"}),
        ({"spread": 1.6}, {"mmd", "classifier"}),
        ({"weights": (0.2, 0.3, 0.5)}, {"psi"}),
        ({"length": 60.0}, {"kolmogorov-smirnov:characters"}),
    ],
)
def test_each_change_is_seen_by_the_detectors_made_for_it(generator, change, sees):
    check = DriftCheck(draw(generator, 1000))
    report = check.judge(draw(generator, 300, **change))
    found = {f.detector for f, p in zip(report.findings, report.adjusted, strict=True) if p <= 0.01}
    assert found == sees
    assert report.detected
    assert len(report.explanation) == len(sees)


def test_all_detectors_together_alarm_at_the_stated_rate_without_drift(generator):
    alarms = rounds = 0
    each = {}
    for number in range(4):
        check = DriftCheck(draw(generator, 1000), seed=number)
        for _ in range(75):
            rounds += 1
            report = check.judge(draw(generator, 200))
            alarms += report.detected
            for finding in report.findings:
                each[finding.detector] = each.get(finding.detector, 0) + (finding.p_value <= 0.01)
    bound = 0.01 + 4 * math.sqrt(0.01 * 0.99 / rounds)
    assert alarms / rounds <= bound
    assert all(number / rounds <= bound for number in each.values()), each


def test_label_shares_find_a_label_that_was_never_seen(generator):
    reference = draw(generator, 500)
    window = draw(generator, 200)
    labels = [*window.labels[:150], *["new"] * 50]
    finding = LabelShares(reference).judge(Sample(window.projections, window.numbers, labels))
    assert finding.p_value < 0.001


def test_p_values_are_never_zero(generator):
    reference, far = draw(generator, 300), draw(generator, 200, shift=5.0)
    assert KernelTest(reference).judge(far).p_value == pytest.approx(1 / 2001)
    assert ClassifierTest(reference).judge(far).p_value > 0


def test_holm_adjusts_like_its_definition_and_keeps_the_order():
    assert holm([0.01]) == [0.01]
    assert holm([0.2, 0.001, 0.02]) == [0.2, 0.003, 0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_too_little_is_said_and_not_judged(generator):
    with pytest.raises(EvaluationError, match="reference has 50"):
        DriftCheck(draw(generator, 50))
    with pytest.raises(EvaluationError, match="window has 20"):
        DriftCheck(draw(generator, 200)).judge(draw(generator, 20))


def log_of(folder, clock, generator, plan):
    log = PredictionLog(folder, clock, queue_records=100_000, max_age_seconds=1e12)
    number = 0
    for version, count, changes in plan:
        sample = draw(generator, count, **changes)
        for place in range(count):
            log.add(
                LoggedPrediction(
                    time=1e9 + number,
                    request_id=f"r{number}",
                    index=0,
                    version=version,
                    labels=(sample.labels[place],),
                    confidence=float(sample.numbers["confidence"][place]),
                    characters=int(sample.numbers["characters"][place]),
                    tokens=5,
                    unknown_ratio=0.0,
                    projection=sample.projections[place].tolist(),
                )
            )
            number += 1
    log.flush()


def test_the_log_is_judged_within_one_version_old_against_new(tmp_path, clock, generator):
    log_of(tmp_path, clock, generator, [(1, 500, {"shift": 9.0}), (2, 900, {})])
    calm = check_log(tmp_path, window=300)
    assert not calm.detected
    assert (calm.reference_records, calm.window_records) == (600, 300)
    assert calm.severity == "none"
    log_of(tmp_path, clock, generator, [(2, 300, {"weights": (0.1, 0.1, 0.8), "shift": 1.0})])
    clock.sleep(1)
    moved = check_log(tmp_path, window=300)
    assert moved.detected
    assert moved.severity == "strong"
    assert any("c 2" in line and "→ 8" in line for line in moved.explanation)
    assert json.loads(json.dumps(moved.to_json()))["detected"] is True


def test_a_log_that_is_too_short_says_what_to_do(tmp_path, clock, generator):
    log_of(tmp_path, clock, generator, [(1, 150, {})])
    with pytest.raises(EvaluationError) as caught:
        check_log(tmp_path)
    assert "monitoring.log_predictions" in caught.value.hint


def test_columns_that_some_lines_lack_are_left_out():
    lines = [{"labels": ["a"], "characters": 3, "confidence": 0.5}, {"labels": [], "characters": 4}]
    sample = sample_of(lines)
    assert set(sample.numbers) == {"characters"}
    assert sample.projections.size == 0
    assert sample.labels == ["a", "O"]


@pytest.mark.slow
def test_ten_thousand_predictions_are_checked_in_two_seconds(tmp_path, clock, generator):
    import time

    log_of(tmp_path, clock, generator, [(1, 10_000, {})])
    begun = time.process_time()
    check_log(tmp_path, window=1_000)
    assert time.process_time() - begun < 4.0  # measured at 1 s; room for a busy machine
