"""Models, windows without drift and windows with it, on real texts: what the drift benchmarks share.

A model is a logistic regression on the frozen embedding (see encoded.py), trained on rows that are
in no reference and no window, its temperature fitted on further rows; what is calibrated on those
is also what the label-free estimate may know. Answers are made into the columns of the log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from contlearn.inference.familiarity import SCORE, familiarity
from contlearn.inference.familiarity import calibrate as calibrate_unknown
from contlearn.monitoring.accuracy import Calibration
from contlearn.monitoring.sample import Sample
from contlearn.tasks.words import language_of
from tests.benchmarks import encoded
from tests.benchmarks.encoded import Encoded

REFERENCE = 1_000
WINDOW = 300
# The share of held-out texts below the threshold for unknown ones.
FLAG_RATE = 0.05


@dataclass(frozen=True)
class Answered:
    """Answered rows: the log's columns, whether each was right, was flagged, all probabilities."""

    sample: Sample
    right: np.ndarray
    probabilities: np.ndarray
    truth: list[str]
    flagged: np.ndarray

    def __len__(self) -> int:
        return len(self.sample)

    def rows(self, places: np.ndarray) -> Answered:
        return Answered(
            self.sample.rows(places),
            self.right[places],
            self.probabilities[places],
            [self.truth[place] for place in places],
            self.flagged[places],
        )


def together(first: Answered, second: Answered) -> Answered:
    a, b = first.sample, second.sample
    return Answered(
        Sample(
            np.concatenate([a.projections, b.projections]),
            {name: np.concatenate([a.numbers[name], b.numbers[name]]) for name in a.numbers},
            [*a.labels, *b.labels],
            [*a.languages, *b.languages],
            [*a.texts, *b.texts],
        ),
        np.concatenate([first.right, second.right]),
        np.concatenate([first.probabilities, second.probabilities]),
        [*first.truth, *second.truth],
        np.concatenate([first.flagged, second.flagged]),
    )


class Model:
    """A head on embeddings, with its temperature and what it was calibrated on."""

    def __init__(self, train: Encoded, calibrate: Encoded) -> None:
        from scipy.optimize import minimize_scalar
        from sklearn.linear_model import LogisticRegression

        key = hashlib.sha256("\0".join([*train.texts, *train.labels]).encode()).hexdigest()[:12]
        path = encoded.WORK / f"head-{key}.npz"
        if not path.exists():
            head = LogisticRegression(C=10.0, max_iter=300).fit(train.embeddings, train.labels)
            temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
            np.savez(temporary, w=head.coef_, b=head.intercept_, names=head.classes_.astype(str))
            os.replace(temporary, path)
        with np.load(path) as stored:
            self.weights, self.bias = stored["w"], stored["b"]
            self.names = stored["names"].tolist()
        self.temperature = 1.0
        logits = self._logits(calibrate)
        known = {name: place for place, name in enumerate(self.names)}
        truth = np.array([known.get(label, -1) for label in calibrate.labels])

        def loss(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            scaled = scaled - scaled.max(axis=1, keepdims=True)
            chosen = scaled[np.arange(len(truth)), truth]
            return float((np.log(np.exp(scaled).sum(axis=1)) - chosen)[truth >= 0].mean())

        self.temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3)).x))
        rule = calibrate_unknown(list(logits), SCORE, self.temperature, rate=FLAG_RATE)
        self.threshold = float(rule["threshold"])
        answered = self.answer(calibrate)
        self.calibration = Calibration(
            answered.sample.numbers["confidence"], answered.right.astype(float)
        )
        self.accuracy = float(answered.right.mean())

    def _logits(self, rows: Encoded) -> np.ndarray:
        logits = rows.embeddings @ self.weights.T + self.bias
        if logits.shape[1] == 1:
            logits = np.concatenate([-logits / 2, logits / 2], axis=1)
        return logits

    def answer(self, rows: Encoded) -> Answered:
        logits = self._logits(rows)
        scaled = logits / self.temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        probabilities = np.exp(scaled)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        best = logits.argmax(axis=1)
        labels = [self.names[place] for place in best]
        top = logits.max(axis=1)
        characters = np.array([float(len(text)) for text in rows.texts])
        numbers = {
            "characters": characters,
            "unknown_ratio": rows.unknown / np.maximum(1, rows.tokens),
            "confidence": probabilities.max(axis=1),
            "energy": top + np.log(np.exp(logits - top[:, None]).sum(axis=1)),
            "fragmentation": rows.tokens / np.maximum(1.0, characters),
        }
        languages = [language_of(text) for text in rows.texts]
        sample = Sample(rows.projections.astype(np.float64), numbers, labels, languages, rows.texts)
        right = np.array([a == b for a, b in zip(labels, rows.labels, strict=True)])
        flagged = familiarity(logits, SCORE, self.temperature) < self.threshold
        return Answered(sample, right, probabilities, rows.labels, flagged)


def _split(rows: Encoded, *sizes: int) -> list[Encoded]:
    parts, at = [], 0
    for size in sizes:
        parts.append(rows.rows(np.arange(at, min(at + size, len(rows)))))
        at += size
    return [*parts, rows.rows(np.arange(min(at, len(rows)), len(rows)))]


def _in_scope(rows: Encoded) -> Encoded:
    return rows.rows(np.flatnonzero(np.array(rows.labels) != "oos"))


@cache
def sources() -> dict[str, tuple[Model, Answered]]:
    """Give the five models, each with a pool of rows that it was not trained on."""
    made = {}
    intents = encoded.load("clinc-train")
    # The last rows stand in the benchmark with typos; their clean twins are in no pool.
    head, _ = _split(intents, len(intents) - 2_500)
    train, pool = _split(_in_scope(head), 3_000)
    model = Model(train, _in_scope(encoded.load("clinc-dev")))
    made["clinc"] = (model, model.answer(pool))
    for name, stored, train_rows, calibrate_rows in (
        ("banking", "banking-train", 2_500, 1_000),
        ("movies", "movies-train", 1_500, 1_000),
        ("agnews", "agnews", 1_200, 1_000),
        ("amazon", "amazon", 1_200, 1_000),
    ):
        train, calibrate, pool = _split(encoded.load(stored), train_rows, calibrate_rows)
        model = Model(train, calibrate)
        made[name] = (model, model.answer(pool))
    return made


@dataclass(frozen=True)
class Case:
    """A real change: rows of `source` until it happens, and a draw of what comes then."""

    name: str
    source: str
    target: Answered
    share: float = 1.0
    # True labels that become three times as common; then windows come from the source itself.
    favoured: frozenset[str] = frozenset()
    known_labels: bool = True

    def window(
        self, rest: Answered, generator: np.random.Generator, size: int = WINDOW
    ) -> Answered:
        if self.favoured:
            weights = np.where(np.isin(rest.truth, list(self.favoured)), 3.0, 1.0)
            chance = weights / weights.sum()
            return rest.rows(generator.choice(len(rest), size, replace=False, p=chance))
        moved = round(self.share * size)
        window = self.target.rows(generator.choice(len(self.target), moved, replace=moved > 500))
        if moved < size:
            window = together(
                window, rest.rows(generator.choice(len(rest), size - moved, replace=False))
            )
        return window.rows(generator.permutation(len(window)))


@cache
def cases() -> tuple[Case, ...]:
    made = sources()
    clinc, movies = made["clinc"][0], made["movies"][0]
    agnews, amazon = made["agnews"][0], made["amazon"][0]
    test = encoded.load("clinc-test")
    oos = clinc.answer(test.rows(np.flatnonzero(np.array(test.labels) == "oos")))
    pool = made["clinc"][1]
    rng = np.random.default_rng(29)
    favoured = rng.choice(clinc.names, 30, replace=False)
    return (
        Case("intents → 10 % out of scope", "clinc", oos, 0.1),
        Case("intents → 20 % out of scope", "clinc", oos, 0.2),
        Case("intents → half out of scope", "clinc", oos, 0.5),
        Case("intents → typos in one word of five", "clinc", clinc.answer(encoded.typos())),
        Case(
            "intents: 30 of 150 three times as common", "clinc", pool,
            favoured=frozenset(map(str, favoured)),
        ),
        Case("movie reviews → tweets", "movies", movies.answer(encoded.load("tweets"))),
        Case("movie reviews → 20 % tweets", "movies", movies.answer(encoded.load("tweets")), 0.2),
        Case("movie reviews → news comments", "movies", movies.answer(encoded.load("nyt"))),
        Case("movie → product reviews", "movies", movies.answer(encoded.load("products"))),
        Case(
            "news → encyclopedia", "agnews", agnews.answer(encoded.load("dbpedia")),
            known_labels=False,
        ),
        Case(
            "news → questions", "agnews", agnews.answer(encoded.load("yahoo")), known_labels=False
        ),
        Case(
            "news → product reviews", "agnews", agnews.answer(encoded.load("amazon")),
            known_labels=False,
        ),
        Case(
            "news → 20 % restaurant reviews", "agnews", agnews.answer(encoded.load("yelp")), 0.2,
            known_labels=False,
        ),
        Case("product → restaurant reviews", "amazon", amazon.answer(encoded.load("yelp"))),
        Case(
            "product → 20 % restaurant reviews", "amazon", amazon.answer(encoded.load("yelp")), 0.2
        ),
    )  # fmt: skip


@cache
def crises() -> tuple[Model, Answered]:
    """Give a model of the first crises, and the rest of the stream in time."""
    stream = encoded.load("crisislex")
    first, rest = _split(stream, 2_000)
    places = np.random.default_rng(31).permutation(len(first))
    model = Model(first.rows(places[:1_200]), first.rows(places[1_200:]))
    return model, model.answer(rest)


def references(
    count: int, *, seed: int = 3, size: int = REFERENCE
) -> Iterator[tuple[str, Model, Answered, Answered]]:
    """Yield source, model, a reference, and the rows that are left for windows."""
    generator = np.random.default_rng(seed)
    made = sources()
    names = list(made)
    for number in range(count):
        name = names[number % len(names)]
        model, pool = made[name]
        order = generator.permutation(len(pool))
        yield name, model, pool.rows(order[:size]), pool.rows(order[size:])
