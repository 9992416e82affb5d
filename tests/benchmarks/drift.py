"""False alarms and power of the drift detectors on real texts.

    python -m tests.benchmarks.drift [--windows 2000] [--size 300]

CONTLEARN_DATA names the folder with the data. Every text is answered once by the int8 6-layer
encoder with a random head (see serving.py); windows and references are drawn from those answers.
Without drift: 20 references of 1,000 rows, and windows of rows that are not in them, from five
sources in turn. With drift: 100 windows each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from contlearn.inference.predictor import OnnxPredictor
from contlearn.monitoring.detectors import Sample
from contlearn.monitoring.drift_check import DriftCheck
from contlearn.tasks.text_classification import TextClassification
from contlearn.types import LabelSpace
from tests.benchmarks.common import append_row
from tests.benchmarks.serving import LABELS, make_model

DATA = Path(os.environ.get("CONTLEARN_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROWS = 2_500
REFERENCE = 1_000


def answered(predictor: OnnxPredictor, name: str, texts: list[str], cache: Path) -> Sample:
    """Answer texts once and keep the columns."""
    path = cache / f"{name}.npz"
    if not path.exists():
        answers = predictor.predict_detailed([{"text": text} for text in texts])
        np.savez(
            path,
            projections=np.array([answer.projection for answer in answers]),
            characters=np.array([float(len(text)) for text in texts]),
            unknown_ratio=np.array([a.unknown_pieces / a.tokens for a in answers]),
            confidence=np.array([answer.prediction.confidence for answer in answers]),
            labels=np.array([answer.prediction.label for answer in answers]),
        )
    stored = np.load(path, allow_pickle=False)
    numbers = {name: stored[name] for name in ("characters", "unknown_ratio", "confidence")}
    return Sample(stored["projections"], numbers, stored["labels"].tolist())


def rows_of(sample: Sample, places: np.ndarray) -> Sample:
    return Sample(
        sample.projections[places],
        {name: values[places] for name, values in sample.numbers.items()},
        [sample.labels[place] for place in places],
    )


def joined(first: Sample, second: Sample) -> Sample:
    return Sample(
        np.concatenate([first.projections, second.projections]),
        {n: np.concatenate([first.numbers[n], second.numbers[n]]) for n in first.numbers},
        [*first.labels, *second.labels],
    )


def read(
    path: str, count: int = ROWS, *, label: str | None = None, shuffle: bool = True
) -> list[str]:
    lines = (DATA / path).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows if label is None or row["label"] == label]
    if shuffle:
        random.Random(17).shuffle(texts)
    return texts[:count]


def with_typos(texts: list[str]) -> list[str]:
    """Swap two neighbouring letters in one word of five."""
    generator = random.Random(17)
    changed = []
    for text in texts:
        words = text.split(" ")
        for place, word in enumerate(words):
            if len(word) > 3 and generator.random() < 0.2:
                at = generator.randrange(len(word) - 1)
                words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        changed.append(" ".join(words))
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--size", type=int, default=300)
    options = parser.parse_args()
    work = Path(os.environ.get("CONTLEARN_BENCH_WORK", tempfile.gettempdir())) / "contlearn-serving"
    folder = work / "serving" / "bench" / "1"
    if not (folder / "manifest.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_model(folder.parent)
    cache = work / "drift"
    cache.mkdir(exist_ok=True)
    labels = LabelSpace(tuple(f"label-{number:02d}" for number in range(LABELS)))
    predictor = OnnxPredictor(
        folder, task=TextClassification(), label_space=labels, max_tokens=64, threads=2
    )
    clinc = read("intent/clinc150/train.jsonl", 5_000)
    calm_texts = {
        "clinc": clinc[:ROWS],
        "movies": read("sentiment/vader_movies/train.jsonl"),
        "agnews": read("cl5/agnews/train.jsonl"),
        "banking": read("intent/banking77/train.jsonl"),
        "amazon": read("cl5/amazon/train.jsonl"),
    }
    shifted_texts = {
        "out of scope": read("intent/clinc150/test.jsonl", 1_000, label="oos"),
        "tweets": read("sentiment/vader_tweets/train.jsonl", 2_000),
        "yelp": read("cl5/yelp/train.jsonl", 2_000),
        "typos": with_typos(clinc[ROWS : 2 * ROWS]),
    }
    crises = read("stream/crisislex/stream.jsonl", 8_100, shuffle=False)
    begun = time.time()
    samples = {
        n: answered(predictor, n, t, cache) for n, t in {**calm_texts, **shifted_texts}.items()
    }
    stream = answered(predictor, "crisislex", crises, cache)
    print(f"answered in {time.time() - begun:.0f} s", flush=True)
    false_alarms(samples, list(calm_texts), options.windows, options.size)
    generator = np.random.default_rng(5)
    clinc_labels = np.array(samples["clinc"].labels)
    common = Counter(samples["clinc"].labels).most_common(3)
    biased = np.where(np.isin(clinc_labels, [name for name, _ in common]), 3.0, 1.0)
    cases = {
        "intents → 20 % out of scope": ("clinc", "out of scope", 0.2, None),
        "intents → typos in one word of five": ("clinc", "typos", 1.0, None),
        "three labels three times as common": ("clinc", "clinc", 1.0, biased),
        "movie reviews → tweets": ("movies", "tweets", 1.0, None),
        "movie reviews → 20 % tweets": ("movies", "tweets", 0.2, None),
        "news → restaurant reviews": ("agnews", "yelp", 1.0, None),
        "product reviews → 20 % restaurant reviews": ("amazon", "yelp", 0.2, None),
    }
    for name, (source, target, share, weights) in cases.items():
        power(samples[source], samples[target], share, weights, name, options.size, generator)
    delay(stream, options.size)


def false_alarms(samples: dict[str, Sample], sources: list[str], windows: int, size: int) -> None:
    generator = np.random.default_rng(3)
    alarms: Counter[str] = Counter()
    done, seconds = 0, []
    references = 20
    for number in range(references):
        sample = samples[sources[number % len(sources)]]
        order = generator.permutation(len(sample))
        check = DriftCheck(rows_of(sample, order[:REFERENCE]), seed=number)
        rest = order[REFERENCE:]
        for _ in range(windows // references):
            window = rows_of(sample, generator.choice(rest, min(size, len(rest)), replace=False))
            begun = time.perf_counter()
            report = check.judge(window)
            seconds.append(time.perf_counter() - begun)
            done += 1
            alarms["all together"] += report.detected
            for finding in report.findings:
                alarms[finding.detector] += finding.p_value <= 0.01
    for name, number in alarms.items():
        row = {
            "measure": f"false alarms, {name}",
            "value": round(100 * number / done, 2),
            "unit": "% of windows",
            "beside": f"{done} windows of {size} rows without drift, nominal 1 %",
        }
        append_row("drift", row)
    row = {
        "measure": "one look at a window",
        "value": round(1e3 * float(np.median(seconds)), 1),
        "unit": "ms",
        "beside": f"median; reference of {REFERENCE}, window of {size}",
    }
    append_row("drift", row)


def power(
    source: Sample,
    target: Sample,
    share: float,
    weights: np.ndarray | None,
    name: str,
    size: int,
    generator: np.random.Generator,
) -> None:
    order = generator.permutation(len(source))
    check = DriftCheck(rows_of(source, order[:REFERENCE]))
    rest, found, alarms = order[REFERENCE:], Counter(), 0
    rounds = 100
    for _ in range(rounds):
        moved = round(share * size)
        chance = None
        if weights is not None:
            pool = rest
            chance = weights[pool] / weights[pool].sum()
        else:
            pool = np.arange(len(target))
        window = rows_of(target, generator.choice(pool, moved, replace=True, p=chance))
        if moved < size:
            window = joined(window, rows_of(source, generator.choice(rest, size - moved)))
        report = check.judge(window)
        alarms += report.detected
        for finding, adjusted in zip(report.findings, report.adjusted, strict=True):
            found[finding.detector] += adjusted <= report.level
    each = ", ".join(f"{detector} {number}" for detector, number in found.items())
    append_row(
        "drift",
        {
            "measure": f"found: {name}",
            "value": round(100 * alarms / rounds),
            "unit": "% of windows",
            "beside": f"{rounds} windows of {size} rows; each detector, corrected: {each}",
        },
    )


def delay(stream: Sample, size: int) -> None:
    """Walk through crises in time: windows after the first 1,000 messages, and the first alarm."""
    check = DriftCheck(rows_of(stream, np.arange(REFERENCE)))
    verdicts = [
        check.judge(rows_of(stream, np.arange(start, start + size))).detected
        for start in range(REFERENCE, len(stream) - size, size)
    ]
    first = verdicts.index(True) + 1 if any(verdicts) else None
    append_row(
        "drift",
        {
            "measure": "found: crisis messages in time",
            "value": round(100 * sum(verdicts) / len(verdicts)),
            "unit": "% of windows",
            "beside": f"{len(verdicts)} windows of {size} rows after the first {REFERENCE}; the "
            f"first alarm came with window {first}",
        },
    )


if __name__ == "__main__":
    main()
