"""Token ids in, logits out: for clients that tokenise themselves, as they do with Triton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.v2 import InferRequest, OutputTensor
from contlearn.serving.versions.version import Answer, Item, LoadedVersion
from contlearn.types import Encoding

__all__ = ["id_tensors", "read_ids"]

_NAMES = ("input_ids", "attention_mask", "token_type_ids")


def read_ids(request: InferRequest, version: LoadedVersion, max_rows: int) -> list[Encoding]:
    """Take the rows of ids out of a request.

    Args:
        request: With input_ids and attention_mask; token_type_ids may be there, all zeros.
        version: Which will answer: it says how many ids it takes, and which there are.
        max_rows: How many texts at most.
    Raises:
        RequestProblem: 400 or 413 with the tensor that is wrong.
    Shape: input_ids, attention_mask (B, L).
    """
    unknown = set(request.inputs) - set(_NAMES)
    if unknown:
        raise _wrong(f"The input {sorted(unknown)[0]!r} does not go with input_ids.", "inputs")
    ids = _matrix(request, "input_ids", None)
    mask = (
        _matrix(request, "attention_mask", ids.shape)
        if "attention_mask" in request.inputs
        else None
    )
    if "token_type_ids" in request.inputs and _matrix(request, "token_type_ids", ids.shape).any():
        raise _wrong("Only one segment is taken: token_type_ids must be zeros.", "token_type_ids")
    if len(ids) > max_rows:
        raise RequestProblem(
            413,
            f"There are {len(ids)} rows; at most {max_rows} are taken at once.",
            where="input_ids",
            hint="Send them in several requests, or raise serving.max_texts.",
            reason="too_large",
        )
    predictor: Any = version.predictor
    if not hasattr(predictor, "answer_ids"):
        raise _wrong("This model takes texts only.", "inputs")
    size, longest = predictor.vocabulary_size, predictor.max_tokens
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= size):
        raise _wrong(f"An id is not in the vocabulary of {size} pieces.", "input_ids")
    rows = []
    for number, row in enumerate(ids):
        length = len(row) if mask is None else _length(mask[number], number)
        if not 0 < length <= longest:
            raise _wrong(
                f"Row {number} has {length} ids; the model takes 1 to {longest}.", "input_ids"
            )
        # Every piece counts as a word, so that tags come back one a piece.
        rows.append(
            Encoding(input_ids=tuple(row[:length].tolist()), word_starts=tuple(range(length)))
        )
    return rows


def _length(mask: NDArray[np.int64], number: int) -> int:
    length = int(mask.sum())
    if not (mask[:length] == 1).all() or mask[length:].any():
        raise _wrong(f"Row {number} is not ones followed by zeros.", "attention_mask")
    return length


def _matrix(request: InferRequest, name: str, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    tensor = request.inputs[name]
    if tensor.values is None:
        raise _wrong(f"{name} has the type {tensor.datatype}, not INT64.", name)
    if tensor.values.ndim != 2 or (shape is not None and tensor.values.shape != shape):
        expected = "[rows, length]" if shape is None else str(list(shape))
        raise _wrong(f"{name} has the shape {list(tensor.shape)}, not {expected}.", name)
    return tensor.values


def id_tensors(
    version: LoadedVersion, answers: Sequence[Answer], items: Sequence[Item]
) -> Mapping[str, OutputTensor]:
    """Make the outputs. Shape: logits (B, C), or (B, L, C) with zeros where a row is shorter."""
    count, width = len(answers), len(version.predictor.label_space)
    found = [answer.logits for answer in answers if answer.logits is not None]
    lengths = [len(item.input_ids) for item in items if isinstance(item, Encoding)]
    if any(values.ndim > 1 for values in found):
        padded = np.zeros((count, max(lengths, default=0), width), dtype=np.float32)
        for row, values in enumerate(found):
            padded[row, : len(values)] = values
        return {"logits": OutputTensor("logits", "FP32", padded.shape, padded)}
    logits = np.array(found, dtype=np.float32).reshape(count, width)
    tensors = {"logits": OutputTensor("logits", "FP32", (count, width), logits)}
    predictions = [answer.prediction for answer in answers]
    if all(len(item.labels) == 1 and item.confidence is not None for item in predictions):
        labels = [item.labels[0] for item in predictions]
        confidence = np.array([item.confidence for item in predictions], dtype=np.float32)
        tensors["label"] = OutputTensor("label", "BYTES", (count,), labels)
        tensors["confidence"] = OutputTensor("confidence", "FP32", (count,), confidence)
    return tensors


def _wrong(what: str, where: str) -> RequestProblem:
    return RequestProblem(
        400, what, where=where, hint="See the model's metadata: GET /v2/models/NAME."
    )
