"""Whether an exported graph says what its checkpoint says, on ragged and on padded batches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from contlearn.interfaces import Loss, Task
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
    "make_feeds",
    "make_reference",
    "median_seconds",
    "open_session",
    "open_with_optimum",
    "probe_inputs",
    "same_answers",
]

_BATCH: Final = 8
# Of what numbers vary by, so much may be lost by rounding.
_SPREAD: Final = 0.01
# Lengths that batches of real texts rarely have: one word, nothing known, far over the limit.
_PROBES: Final = ("a", "ok .", "東京 наконец 🙂 naïve", "why " * 40, "one two three four " * 200)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a graph is from its source.

    `relative_difference` is the largest difference of a score by the spread of the source's, and
    `spread` that spread, as `Reference.spread` gives it. `agreement` is the share of equal labels;
    for words, of words. A label counts as equal when the source itself holds both for equally
    good, within the tolerance.
    """

    max_abs_difference: float
    relative_difference: float
    spread: float
    agreement: float
    rows: int


@dataclass(slots=True)
class Reference:
    """The encodings that are compared, and the source's logits of each.

    Shape: logits[i] is (1, C), or (places, C) where rows of scores belong to places in the text.
    """

    encodings: list[Encoding]
    logits: list[Floats]
    pad_id: int
    has_places: bool
    loss: Loss = "softmax"

    def with_more(self, other: Reference) -> Reference:
        """Give the rows of both."""
        return replace(
            self,
            encodings=[*self.encodings, *other.encodings],
            logits=[*self.logits, *other.logits],
        )

    def some(self, most: int) -> Reference:
        """Give at most so many rows, evenly spread."""
        step = -(-len(self.encodings) // most) or 1
        return replace(self, encodings=self.encodings[::step], logits=self.logits[::step])

    def spread(self) -> Floats:
        """Give the unit in which differences of scores are told: their spread, 1 at least.

        Rounding is a share of the numbers it happens to, and a head on rows that are far apart has
        scores of some hundreds. Scores that are compared with each other have one spread; numbers
        that each mean something of their own have one an output.

        Shape: (1,), or (C,) for numbers.
        """
        every = np.concatenate(self.logits) if self.logits else np.zeros((0, 1), np.float32)
        if not every.size:
            return np.ones(1, np.float32)
        deviation = every.std(axis=0) if self.loss == "squared" else every.std(keepdims=True)[0]
        return np.asarray(np.maximum(deviation, 1.0), dtype=np.float32)

    def answered_by(self, session: Any) -> Reference:
        """Put a graph's logits in the place of the source's, row by row."""
        logits = [_run(session, [encoding], self)[0] for encoding in self.encodings]
        return replace(self, logits=logits)


def probe_inputs(task: Task) -> list[Inputs]:
    """Give inputs of unusual lengths, so that padding is never seen on even batches only."""
    return [task.probe(text) for text in _PROBES]


def make_reference(
    checkpoint: Checkpoint, inputs: Sequence[Inputs], *, task: Task, max_tokens: int
) -> Reference:
    """Score inputs with the source, one at a time, so that padding plays no part in the truth."""
    parts = task.encode(checkpoint.tokenizer.backend_tokenizer, inputs, max_tokens)
    has_places = checkpoint.model.has_places
    encodings = [e for encoding in parts for e in encoding if e.word_starts or not has_places]
    logits = []
    checkpoint.model.eval()
    with torch.no_grad():
        for encoding in encodings:
            packed = pack([encoding], pad_id=checkpoint.pad_id, places=has_places)
            logits.append(checkpoint.model(packed).numpy())
    loss = checkpoint.model.loss
    return Reference(encodings, logits, checkpoint.pad_id, has_places, loss)


def make_feeds(
    checkpoint: Checkpoint, inputs: Sequence[Inputs], *, task: Task, max_tokens: int
) -> list[dict[str, NDArray[np.int64]]]:
    """Give the graph's inputs for each text alone."""
    parts = task.encode(checkpoint.tokenizer.backend_tokenizer, inputs, max_tokens)
    return [_feed([e], checkpoint.pad_id) for encodings in parts for e in encodings]


def open_session(path: Path, *, threads: int = 1) -> Any:
    """Open a graph as a server does."""
    import onnxruntime as ort

    options = _options(threads=threads)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def open_with_optimum(folder: Path, *, words: bool) -> Any | None:
    """Open an exported folder as people do who have optimum; `compare` takes it as a session.

    Returns:
        None where optimum-onnx is not installed, or does not fit the transformers that is.
    """
    try:
        from optimum import onnxruntime as loaders
    except ImportError:
        return None
    kind: Any = (
        loaders.ORTModelForTokenClassification
        if words
        else loaders.ORTModelForSequenceClassification
    )
    return _ThroughOptimum(kind.from_pretrained(folder, session_options=_options(threads=1)))


class _ThroughOptimum:
    """A model of optimum, asked as a session is."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[np.int64]]) -> list[Floats]:
        """Give the logits; `names` is what a session is asked for."""
        tensors = {name: torch.from_numpy(values) for name, values in feed.items()}
        return [self._model(**tensors).logits.numpy()]


def compare(
    session: Any, reference: Reference, *, tolerance: float, alone: bool = False
) -> Comparison:
    """Compare a graph with its source, row by row (ragged) and in padded batches.

    Padded batches mix lengths on purpose: the encodings are taken in the order they came. With
    `alone` there are none: 8-bit graphs are served row by row. `tolerance` is a share of the
    spread of the source's scores.
    """
    spread = reference.spread()
    size = len(reference.encodings)
    batches = [[i] for i in range(size)]
    if not alone:
        batches += [list(range(i, min(i + _BATCH, size))) for i in range(0, size, _BATCH)]
    difference, relative, equal, rows = 0.0, 0.0, 0, 0
    for batch in batches:
        found = _run(session, [reference.encodings[i] for i in batch], reference)
        for i, logits in zip(batch, found, strict=True):
            expected = reference.logits[i]
            found_here = np.abs(logits - expected)
            difference = max(difference, float(found_here.max(initial=0.0)))
            relative = max(relative, float((found_here / spread).max(initial=0.0)))
            if not np.isfinite(logits).all():
                difference = relative = float("inf")
            same = same_answers(reference, expected, logits, allowed=tolerance * spread)
            equal += int(same.sum())
            rows += len(expected)
    return Comparison(
        max_abs_difference=difference,
        relative_difference=relative,
        spread=float(spread.max()),
        agreement=equal / rows if rows else 1.0,
        rows=rows,
    )


def same_answers(
    reference: Reference, expected: Floats, logits: Floats, *, allowed: Floats
) -> NDArray[np.bool_]:
    """Say of each row of scores whether it means the same answer as the source's.

    Where one output is right, the highest decides; where each is reached or not, its sign; what the
    source itself holds for equally good, within what is allowed, counts as the same. Numbers are
    the same within what is allowed or a hundredth of what they vary by.

    Shape: expected and logits (rows, C); allowed (1,), or (C,) for numbers; the answer (rows,).
    """
    loss = reference.loss
    if loss in ("sigmoid", "ordinal"):
        same = (expected > 0) == (logits > 0)
        return np.asarray((same | (np.abs(expected) <= allowed)).all(axis=1))
    if loss == "squared":
        every = np.concatenate(reference.logits)
        allowed = np.maximum(allowed, _SPREAD * every.std(axis=0))
        return np.asarray((np.abs(logits - expected) <= allowed).all(axis=1))
    places = np.arange(len(expected))
    ours, theirs = expected.argmax(axis=1), logits.argmax(axis=1)
    return np.asarray(expected[places, ours] - expected[places, theirs] <= allowed)


def median_seconds(
    sessions: Sequence[Any], reference: Reference, *, rows: int = 32, rounds: int = 3
) -> list[float]:
    """Time single inputs, the way a server that does not pad runs them; give a median each.

    The sessions take turns at every input, so that whatever else the machine does meanwhile slows
    all of them alike; a first round is not counted.
    """
    times: list[list[float]] = [[] for _ in sessions]
    for repeat in range(rounds + 1):
        for encoding in reference.encodings[:rows]:
            for session, taken in zip(sessions, times, strict=True):
                started = time.perf_counter()
                _run(session, [encoding], reference)
                if repeat:
                    taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) for taken in times]


def _options(*, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _run(session: Any, encodings: Sequence[Encoding], reference: Reference) -> list[Floats]:
    logits = session.run(["logits"], _feed(encodings, reference.pad_id))[0]
    if not reference.has_places:
        return [logits[row : row + 1] for row in range(len(encodings))]
    return [logits[row, list(e.word_starts)] for row, e in enumerate(encodings)]


def _feed(encodings: Sequence[Encoding], pad_id: int) -> dict[str, NDArray[np.int64]]:
    packed = pack(encodings, pad_id=pad_id).numpy()
    return {
        "input_ids": np.ascontiguousarray(packed[:, IDS]),
        "attention_mask": np.ascontiguousarray(packed[:, MASK]),
    }
