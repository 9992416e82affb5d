from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from contlearn.errors import EvaluationError
from contlearn.monitoring.drift_check import DETECTORS, DriftCheck
from contlearn.monitoring.input_detectors import (
    ClassifierTest,
    KernelTest,
    Languages,
    NeighbourDistance,
    NewWords,
)
from contlearn.monitoring.prediction_detectors import (
    ConditionalConfidence,
    Confidence,
    LabelChiSquare,
    LabelDivergence,
    LabelLift,
    LabelPsi,
)
from contlearn.monitoring.sample import Sample, sample_of


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
    finding = Confidence(reference, nulls={}).judge(window)
    expected = stats.ks_2samp(reference.numbers["confidence"], window.numbers["confidence"])
    assert finding.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert finding.p_value == pytest.approx(expected.pvalue, rel=0.15)


def test_kernel_test_agrees_with_its_definition_on_a_small_case(generator):
    reference, window = draw(generator, 30), draw(generator, 12)
    test = KernelTest(reference, nulls={})
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
        ({"spread": 1.6}, {"mmd", "classifier", "neighbour-distance"}),
        ({"weights": (0.2, 0.3, 0.5)}, {"psi", "chi-square", "jensen-shannon", "label-lift"}),
        ({"length": 60.0}, {"ks-length"}),
    ],
)
def test_each_change_is_seen_by_the_detectors_made_for_it(generator, change, sees):
    check = DriftCheck(draw(generator, 1000))
    report = check.judge(draw(generator, 300, **change))
    found = {f.detector for f, p in zip(report.findings, report.adjusted, strict=True) if p <= 0.01}
    assert found == sees
    assert report.detected
    assert set(report.alarming) == sees
    assert 1 <= len(report.explanation) <= len(sees)  # what says the same is said once


@pytest.mark.slow
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


@pytest.mark.parametrize("kind", [LabelPsi, LabelChiSquare, LabelDivergence, LabelLift])
def test_label_detectors_find_a_label_that_was_never_seen(generator, kind):
    reference = draw(generator, 500)
    window = draw(generator, 200)
    labels = [*window.labels[:150], *["new"] * 50]
    detector = kind(reference, nulls={})
    moved = Sample(window.projections, window.numbers, labels)
    finding = detector.judge(moved)
    assert finding.p_value < 0.001
    assert "(new) 0% → 25%" in detector.explain(moved, finding)


def test_lift_agrees_with_its_definition_on_a_small_case():
    first, second = np.array([6.0, 2.0, 0.0]), np.array([1.0, 3.0, 0.0])
    likelihoods = []
    for factor, part in ((1.5, 0.4), (2.0, 0.2), (3.0, 0.1)):
        fell = (1 - factor * part) / (1 - part)
        product = 1.0
        for x, y in zip(first, second, strict=True):
            odds = second.sum() / first.sum()

            def chance(times, x=x, y=y, odds=odds):
                return stats.binom.pmf(y, x + y, times * odds / (1 + times * odds))

            product *= (part * chance(factor) + (1 - part) * chance(fell)) / chance(1.0)
        likelihoods.append(product)
    found = LabelLift(Sample(np.zeros((0, 0)), {}, ["a"] * 9), nulls={}).distance(
        first[None], second[None]
    )
    assert found[0] == pytest.approx(math.log(np.mean(likelihoods)) / second.sum())


@pytest.mark.slow
def test_lift_finds_many_labels_that_rose_a_little(generator):
    none, names = np.zeros((0, 0)), [f"l{number:03d}" for number in range(150)]
    chances = np.where(np.arange(150) < 30, 3.0, 1.0)
    chances /= chances.sum()
    found = {LabelLift: 0, LabelChiSquare: 0}
    for _ in range(20):
        reference = Sample(none, {}, generator.choice(names, 1000).tolist())
        window = Sample(none, {}, generator.choice(names, 300, p=chances).tolist())
        for kind in found:
            found[kind] += kind(reference, nulls={}).judge(window).p_value <= 0.002
    assert found[LabelLift] > found[LabelChiSquare] >= 1


def test_conditional_confidence_agrees_with_scipy_for_one_label_and_ignores_shares(generator):
    before, now = generator.beta(5, 2, 300), generator.beta(5, 2.6, 120)
    none = np.zeros((0, 0))
    detector = ConditionalConfidence(Sample(none, {"confidence": before}, ["a"] * 300), nulls={})
    finding = detector.judge(Sample(none, {"confidence": now}, ["a"] * 120))
    expected = stats.mannwhitneyu(now, before, method="asymptotic", use_continuity=False)
    assert finding.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    # Label b is always less sure than a: more of b moves all confidences, none within a label.
    values = {"a": lambda n: generator.beta(8, 2, n), "b": lambda n: generator.beta(2, 8, n)}

    def mixed(a, b):
        numbers = {"confidence": np.concatenate([values["a"](a), values["b"](b)])}
        return Sample(none, numbers, ["a"] * a + ["b"] * b)

    reference, window = mixed(800, 200), mixed(60, 240)
    assert Confidence(reference, nulls={}).judge(window).p_value < 1e-6
    assert ConditionalConfidence(reference, nulls={}).judge(window).p_value > 0.01


def test_neighbour_distance_sees_a_few_texts_far_from_all(generator):
    reference, window = draw(generator, 1000), draw(generator, 300)
    few = window.projections.copy()
    few[:60] = generator.normal(0, 1, (60, 8)) * 4  # same mean, thinly spread
    detector = NeighbourDistance(reference, nulls={})
    assert detector.judge(window).p_value > 0.01
    moved = Sample(few, window.numbers, window.labels)
    assert detector.judge(moved).p_value < 0.001


def test_languages_and_new_words_say_which():
    none = np.zeros((0, 0))

    def sample(languages, texts):
        return Sample(none, {}, ["a"] * len(texts), languages, texts)

    reference = sample(["english"] * 400, ["where is my parcel", "pay the bill"] * 200)
    window = sample(
        ["english"] * 60 + ["german"] * 60, ["where is my parcel", "wo ist das paket"] * 60
    )
    languages, words = Languages(reference, nulls={}), NewWords(reference, nulls={})
    found = languages.judge(window)
    assert found.p_value < 0.001
    assert "english 100% → 50%" in languages.explain(window, found)
    found = words.judge(window)
    assert found.p_value < 0.001
    assert "paket" in words.explain(window, found)


def test_precomputed_nulls_are_used_again(generator):
    reference, window = draw(generator, 600), draw(generator, 200)
    first = DriftCheck(reference)
    report = first.judge(window)
    assert {key.partition(":")[0] for key in first.nulls} == {
        "psi",
        "chi-square",
        "jensen-shannon",
        "label-lift",
        "mmd",
    }
    kept = {key: values.copy() for key, values in first.nulls.items()}
    again = DriftCheck(reference, nulls=kept).judge(window)
    assert again.findings == report.findings
    assert kept.keys() == first.nulls.keys()


def test_every_detector_has_a_name_a_summary_and_its_needs():
    names = [kind.name for kind in DETECTORS]
    assert len(set(names)) == len(names) == 15
    assert all(kind.needs and kind.target in ("input", "prediction") for kind in DETECTORS)


def test_p_values_are_never_zero(generator):
    reference, far = draw(generator, 300), draw(generator, 200, shift=5.0)
    assert KernelTest(reference, nulls={}).judge(far).p_value == pytest.approx(1 / 2001)
    assert ClassifierTest(reference, nulls={}).judge(far).p_value > 0


def test_too_little_is_said_and_not_judged(generator):
    with pytest.raises(EvaluationError, match="reference has 50"):
        DriftCheck(draw(generator, 50))
    with pytest.raises(EvaluationError, match="window has 20"):
        DriftCheck(draw(generator, 200)).judge(draw(generator, 20))


class Raises(LabelPsi):
    name = "raises"

    def judge(self, window):
        raise KeyError("no such label")


class Unmade(LabelPsi):
    name = "unmade"

    def __init__(self, *_, **__):
        raise RuntimeError("no model")


class Silent(LabelPsi):
    name = "silent"

    def judge(self, window):
        return None


def test_detector_that_fails_is_left_out_named_and_the_others_judge(generator):
    reference, window = draw(generator, 300), draw(generator, 200, weights=(0.1, 0.1, 0.8))
    check = DriftCheck(reference, detectors=(Raises, Unmade, Silent, LabelPsi))
    report = check.judge(window)
    alone = DriftCheck(reference, detectors=(LabelPsi,)).judge(window)
    assert report.to_json() == alone.to_json()
    assert report.detected
    assert check.failed == {
        "unmade": "it failed: RuntimeError: no model",
        "raises": "it failed: KeyError: 'no such label'",
        "silent": "it failed: TypeError: judge gave NoneType, not a Finding",
    }


def test_where_every_detector_fails_nothing_is_said_to_be_well(generator):
    check = DriftCheck(draw(generator, 300), detectors=(Raises, Silent))
    with pytest.raises(EvaluationError, match="Every detector failed: raises: it failed"):
        check.judge(draw(generator, 200))


def test_columns_that_most_lines_lack_are_left_out():
    lines = [
        {"labels": ["a"], "characters": 3, "energy": 1.0, "tokens": 3, "language": "english"},
        {"labels": [], "characters": 4, "request_id": "r", "index": 2},
        {"labels": ["b", "a"], "characters": 4},
    ]
    sample = sample_of(lines)
    assert set(sample.numbers) == {"characters"}
    assert sample.projections.size == 0
    assert sample.labels == ["a", "O", "a+b"]
    assert not sample.has("languages")
    assert not sample.has("texts")
    assert sample.places[1] == ("r", 2)
    some = sample_of([*lines[:1], *lines[:1], {"labels": ["a"], "characters": 2}])
    assert np.isnan(some.numbers["energy"][2])
    assert some.numbers["fragmentation"].tolist()[:2] == [1.0, 1.0]
