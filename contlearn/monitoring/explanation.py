"""What moved, in words: labels, words, clusters, lengths; and examples where texts are logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contlearn.monitoring.input_detectors import ClassifierTest, NeighbourDistance
from contlearn.monitoring.sample import Sample
from contlearn.tasks.words import words_of

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["moved_clusters", "moved_labels", "moved_numbers", "moved_words", "typical_examples"]

_CLUSTERS: Final = 8
_SURE: Final = 3.0
_ROWS: Final = 4_000


def moved_words(before: Sequence[str], now: Sequence[str], *, most: int = 10) -> dict[str, Any]:
    """Name the words that more, or fewer, texts hold than before.

    Returns:
        `more` and `less`: lists of word, share of texts before, share now; the surest first.
    Source: Monroe et al., "Fightin' Words", Political Analysis 2008: log-odds ratio with a prior
        from all texts, over its standard error; named from three standard errors on.
    """
    first, second = _texts_with(before), _texts_with(now)
    n, m = max(1, len(before)), max(1, len(now))
    ranked = []
    for word in first.keys() | second.keys():
        a, b = first[word], second[word]
        if a + b < 5 or len(word) < 2:
            continue
        prior = 10.0 * (a + b) / (n + m)
        odds = np.log((b + prior) / (m + 11 - b - prior)) - np.log(
            (a + prior) / (n + 11 - a - prior)
        )
        error = np.sqrt(1 / (b + prior) + 1 / (a + prior))
        ranked.append((float(odds / error), word, a / n, b / m))
    ranked.sort(key=lambda item: (-abs(item[0]), item[1]))
    sure = [item for item in ranked if abs(item[0]) >= _SURE]

    def named(sign: int) -> list[dict[str, Any]]:
        return [
            {"word": word, "before": before_share, "now": now_share}
            for score, word, before_share, now_share in sure
            if score * sign > 0
        ][:most]

    return {"more": named(1), "less": named(-1)}


def moved_labels(reference: Sample, window: Sample, *, most: int = 8) -> list[dict[str, Any]]:
    """Name the labels whose share moved most, with both shares."""
    first, second = Counter(reference.labels), Counter(window.labels)
    n, m = max(1, len(reference)), max(1, len(window))
    rows = [(label, first[label] / n, second[label] / m) for label in first.keys() | second.keys()]
    rows.sort(key=lambda row: (-abs(row[2] - row[1]), row[0]))
    return [{"label": name, "before": a, "now": b} for name, a, b in rows[:most]]


def moved_numbers(reference: Sample, window: Sample) -> dict[str, Any]:
    """Give the median and the outer tenths of each number, before and now."""
    moved = {}
    for name in reference.numbers.keys() & window.numbers.keys():
        moved[name] = {
            "before": _quantiles(reference.numbers[name]),
            "now": _quantiles(window.numbers[name]),
        }
    return dict(sorted(moved.items()))


def moved_clusters(reference: Sample, window: Sample, *, seed: int = 17) -> list[dict[str, Any]]:
    """Cluster the reference by meaning, and say how the share of each cluster moved.

    A cluster is named by its commonest labels, and by its words where texts are logged. What is
    farther from all clusters than 99 % of the reference is counted as `outside`.
    """
    if not reference.has("projections") or not window.has("projections"):
        return []
    generator = np.random.default_rng(seed)
    rows = np.asarray(reference.projections, dtype=np.float64)
    if len(rows) > _ROWS:
        rows = rows[generator.choice(len(rows), _ROWS, replace=False)]
    centres = _centres(rows, min(_CLUSTERS, len(rows) // 20), generator)
    inside, distance = _nearest(np.asarray(reference.projections), centres)
    now, far = _nearest(np.asarray(window.projections), centres)
    limit = float(np.quantile(distance, 0.99))
    inside = np.where(distance > limit, len(centres), inside)
    now = np.where(far > limit, len(centres), now)
    moved = []
    for number in range(len(centres) + 1):
        before_share, now_share = float((inside == number).mean()), float((now == number).mean())
        source, places = (
            (window, np.flatnonzero(now == number).tolist())
            if number == len(centres)
            else (reference, np.flatnonzero(inside == number).tolist())
        )
        labels = Counter(source.labels[i] for i in places).most_common(3)
        words: list[str] = []
        if len(source.texts):
            mine = _texts_with([source.texts[i] for i in places])
            every = _texts_with(source.texts)
            words = sorted(
                (w for w in mine if mine[w] >= 3 and len(w) > 3),
                key=lambda w: (-mine[w] * mine[w] / every[w], w),
            )[:4]
        moved.append(
            {
                "cluster": "outside" if number == len(centres) else number + 1,
                "labels": [label for label, _ in labels],
                "words": words,
                "before": before_share,
                "now": now_share,
            }
        )
    moved.sort(key=lambda item: -abs(float(str(item["now"])) - float(str(item["before"]))))
    return moved


def typical_examples(reference: Sample, window: Sample, *, most: int = 5) -> list[dict[str, Any]]:
    """Give the logged texts that are most unlike the reference; nothing where none are logged."""
    if not window.has("texts") or not window.has("projections") or not reference.has("projections"):
        return []
    newness = ClassifierTest(reference, nulls={}).newness(window)
    distance = NeighbourDistance(reference, nulls={}).distances(window.projections)
    score = _ranks(newness) + _ranks(distance)
    chosen: list[dict[str, Any]] = []
    for place in np.argsort(-score, kind="stable"):
        text = window.texts[place]
        if text and all(text != item["text"] for item in chosen):
            chosen.append({"text": text[:300], "label": window.labels[place]})
        if len(chosen) == most:
            break
    return chosen


def _texts_with(texts: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(words_of(text)))
    return counts


def _quantiles(values: FloatArray) -> list[float]:
    finite = values[np.isfinite(values)]
    return [round(float(v), 4) for v in np.quantile(finite, (0.1, 0.5, 0.9))]


def _ranks(values: FloatArray) -> FloatArray:
    result: FloatArray = values.argsort(kind="stable").argsort(kind="stable") / max(1, len(values))
    return result


def _nearest(rows: FloatArray, centres: FloatArray) -> tuple[FloatArray, FloatArray]:
    squares = (
        (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :] - 2 * rows @ centres.T
    )
    return squares.argmin(axis=1), np.sqrt(np.maximum(squares.min(axis=1), 0.0))


def _centres(rows: FloatArray, count: int, generator: np.random.Generator) -> FloatArray:
    """Find centres by Lloyd's steps from centres far apart (k-means++, Arthur 2007)."""
    centres = rows[[int(generator.integers(len(rows)))]]
    while len(centres) < count:
        _, distance = _nearest(rows, centres)
        weight = distance**2
        total = float(weight.sum())
        if total <= 0:
            break
        centres = np.concatenate([centres, rows[[generator.choice(len(rows), p=weight / total)]]])
    for _ in range(12):
        near, _ = _nearest(rows, centres)
        centres = np.stack(
            [
                rows[near == i].mean(axis=0) if (near == i).any() else centres[i]
                for i in range(len(centres))
            ]
        )
    return centres
