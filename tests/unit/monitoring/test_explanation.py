from __future__ import annotations

import numpy as np
import pytest

from contlearn.monitoring.explanation import (
    moved_clusters,
    moved_labels,
    moved_numbers,
    moved_words,
    typical_examples,
)
from contlearn.monitoring.reference import Reference, load_reference, save_reference
from contlearn.monitoring.sample import Sample

TOPICS = {"billing": "please pay the invoice", "shipping": "where is the parcel today"}


def sample(generator, counts, *, centre=None, texts=True):
    """Texts of topics, each topic a cluster of its own."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    centres = {"billing": 3.0, "shipping": -3.0, "new": 0.0}
    rows = np.stack([generator.normal(centres[label], 0.5, 6) for label in labels])
    if centre is not None:
        rows[:, 0] += centre * np.array([label == "new" for label in labels])
    said = [TOPICS.get(label, "the printer smells of burnt toast") for label in labels]
    answers = [label if label != "new" else "billing" for label in labels]
    return Sample(
        rows,
        {"characters": np.array([float(len(text)) for text in said])},
        answers,
        ["english"] * len(said),
        said if texts else (),
        [(f"r{place}", 0) for place in range(len(said))],
    )


@pytest.fixture
def pair():
    generator = np.random.default_rng(2)
    reference = sample(generator, {"billing": 200, "shipping": 200})
    window = sample(generator, {"billing": 80, "shipping": 20, "new": 40}, centre=20.0)
    return reference, window


def test_words_labels_numbers_and_clusters_say_what_moved(pair):
    reference, window = pair
    words = moved_words(reference.texts, window.texts)
    assert {"printer", "toast"} <= {item["word"] for item in words["more"]}
    assert {"parcel", "where"} <= {item["word"] for item in words["less"]}
    labels = moved_labels(reference, window)
    assert labels[0]["before"] == 0.5
    assert {item["label"] for item in labels} == {"billing", "shipping"}
    assert moved_numbers(reference, window)["characters"]["before"] == [22.0, 23.5, 25.0]
    clusters = moved_clusters(reference, window)
    outside = next(item for item in clusters if item["cluster"] == "outside")
    assert outside["now"] == pytest.approx(40 / 140, abs=0.03)
    assert "printer" in outside["words"]
    assert sum(item["now"] for item in clusters) == pytest.approx(1.0)


def test_examples_are_the_texts_most_unlike_the_reference_and_none_without_texts(pair):
    reference, window = pair
    assert typical_examples(reference, window, most=1) == [
        {"text": "the printer smells of burnt toast", "label": "billing"}
    ]
    generator = np.random.default_rng(2)
    silent = sample(generator, {"billing": 60, "new": 60}, texts=False)
    assert typical_examples(reference, silent) == []


def test_reference_comes_back_without_texts_which_are_taken_from_the_log(pair, tmp_path):
    reference, _ = pair
    path = tmp_path / "reference-1.parquet"
    nulls = {"psi:300": np.arange(5.0)}
    save_reference(path, Reference(reference, nulls, "2030-01-01T00:00:00.000+00:00"))
    assert b"parcel" not in path.read_bytes()
    loaded = load_reference(path)
    assert loaded.sample.texts == ()
    assert list(loaded.sample.labels) == list(reference.labels)
    assert loaded.sample.projections == pytest.approx(reference.projections)
    assert loaded.nulls["psi:300"].tolist() == nulls["psi:300"].tolist()
    lines = [
        {"request_id": request, "index": index, "text": text}
        for (request, index), text in zip(reference.places, reference.texts, strict=True)
    ]
    assert list(load_reference(path, lines).sample.texts) == list(reference.texts)
    # What was forgotten in the log is missing; with many missing there are no texts at all.
    assert load_reference(path, lines[:300]).sample.texts == ()


def test_damaged_reference_is_none(tmp_path, pair):
    path = tmp_path / "reference-1.parquet"
    assert load_reference(path) is None
    save_reference(path, Reference(pair[0], {}, "x"))
    path.write_bytes(path.read_bytes()[:200])
    assert load_reference(path) is None
