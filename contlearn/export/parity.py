"""Whether an exported graph says what its checkpoint says, on ragged and on padded batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from contlearn.interfaces import FieldNames, Task
from contlearn.modeling.checkpoint import Checkpoint
from contlearn.modeling.packing import IDS, MASK, pack
from contlearn.types import Encoding, Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "Comparison",
    "Reference",
    "compare",
    "make_reference",
    "median_seconds",
    "open_session",
    "probe_inputs",
]

_BATCH: Final = 8
# Lengths that batches of real texts rarely have: one word, nothing known, far over the limit.
_PROBES: Final = ("a", "ok .", "東京 наконец 🙂 naïve", "why " * 40, "one two three four " * 200)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a graph is from its source.

    `agreement` is the share of equal labels; for words, of words. A label counts as equal when the
    source itself holds both for equally good, within the tolerance.
    """

    max_abs_difference: float
    agreement: float
    rows: int


@dataclass(slots=True)
class Reference:
    """The encodings that are compared, and the source's logits of each.

    Shape: logits[i] is (1, C), or (words, C).
    """

    encodings: list[Encoding]
    logits: list[Floats]
    pad_id: int
    words: bool


def probe_inputs(task: Task) -> list[Inputs]:
    """Give inputs of unusual lengths, so that padding is never seen on even batches only."""
    return [task.read_inputs(text, FieldNames()) for text in _PROBES]


def make_reference(
    checkpoint: Checkpoint, inputs: Sequence[Inputs], *, task: Task, max_tokens: int
) -> Reference:
    """Score inputs with the source, one at a time, so that padding plays no part in the truth."""
    parts = task.encode(checkpoint.tokenizer.backend_tokenizer, inputs, max_tokens)
    words = checkpoint.model.per == "word"
    encodings = [e for encoding in parts for e in encoding if e.word_starts or not words]
    logits = []
    checkpoint.model.eval()
    with torch.no_grad():
        for encoding in encodings:
            packed = pack([encoding], pad_id=checkpoint.pad_id, words=words)
            logits.append(checkpoint.model(packed).numpy())
    return Reference(encodings, logits, checkpoint.pad_id, words)


def open_session(path: Path, *, threads: int = 1) -> Any:
    """Open a graph as a server does."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(session: Any, reference: Reference, *, tolerance: float) -> Comparison:
    """Compare a graph with its source, row by row (ragged) and in padded batches.

    Padded batches mix lengths on purpose: the encodings are taken in the order they came.
    """
    size = len(reference.encodings)
    batches = [[i] for i in range(size)]
    batches += [list(range(i, min(i + _BATCH, size))) for i in range(0, size, _BATCH)]
    difference, equal, rows = 0.0, 0, 0
    for batch in batches:
        found = _run(session, [reference.encodings[i] for i in batch], reference)
        for i, logits in zip(batch, found, strict=True):
            expected = reference.logits[i]
            difference = max(difference, float(np.abs(logits - expected).max(initial=0.0)))
            if not np.isfinite(logits).all():
                difference = float("inf")
            places = np.arange(len(expected))
            ours, theirs = expected.argmax(axis=1), logits.argmax(axis=1)
            margin = expected[places, ours] - expected[places, theirs]
            equal += int((margin <= tolerance).sum())
            rows += len(expected)
    return Comparison(difference, equal / rows if rows else 1.0, rows)


def median_seconds(session: Any, reference: Reference, *, rows: int = 32) -> float:
    """Time single inputs, the way a server that does not pad runs them; give the median."""
    chosen = reference.encodings[:rows]
    times = []
    for repeat in range(3):
        for encoding in chosen:
            started = time.perf_counter()
            _run(session, [encoding], reference)
            if repeat:
                times.append(time.perf_counter() - started)
    return float(np.median(times))


def _run(session: Any, encodings: Sequence[Encoding], reference: Reference) -> list[Floats]:
    packed = pack(encodings, pad_id=reference.pad_id).numpy()
    feed = {
        "input_ids": np.ascontiguousarray(packed[:, IDS]),
        "attention_mask": np.ascontiguousarray(packed[:, MASK]),
    }
    logits = session.run(["logits"], feed)[0]
    if not reference.words:
        return [logits[row : row + 1] for row in range(len(encodings))]
    return [logits[row, list(e.word_starts)] for row, e in enumerate(encodings)]
