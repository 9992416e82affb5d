"""What a server's answers look like in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contlearn.client.retries import ClientError

__all__ = [
    "Answer",
    "PredictedEntity",
    "PredictedText",
    "Taken",
    "UnreadWords",
    "read_answer",
    "read_taken",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedEntity:
    """A typed span; `start` and `end` count characters, the end exclusive."""

    start: int
    end: int
    type: str
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadWords:
    """Words of a text that the model did not read: "no-pieces", or "cut" at the token limit."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedText:
    """What was predicted of one text: a label with its confidence, entities, or what a task gives.

    `value` is all of it as the server wrote it, the other fields are read out of it where they are
    there. `unknown` says that the text is unlike what the model was proven on; None where the
    version cannot tell. `truncated` says that it was cut at the token limit, `unread` which words
    were not read where entities are looked for. `error` says why this text alone was not answered;
    there is nothing else then.
    """

    value: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None
    confidence: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    unknown: bool | None = None
    entities: tuple[PredictedEntity, ...] = ()
    truncated: bool = False
    unread: tuple[UnreadWords, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one request, by one version; `request_id` is what feedback names."""

    predictions: tuple[PredictedText, ...]
    model: str
    version: int
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Feedback that was taken; `new` is False when it lay in the inbox already.

    `new_labels` are names that no record had before: each founds a class.
    """

    accepted: int
    new: bool
    new_labels: tuple[str, ...] = ()


def read_answer(value: Mapping[str, Any]) -> Answer:
    """Read the answer of /predict.

    Raises:
        ClientError: When it is not one.
    """
    try:
        return Answer(
            predictions=tuple(_prediction(item) for item in value["predictions"]),
            model=str(value["model"]),
            version=int(value["version"]),
            request_id=str(value["request_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(error) from error


def read_taken(value: Mapping[str, Any]) -> Taken:
    """Read the answer of /feedback.

    Raises:
        ClientError: When it is not one.
    """
    try:
        return Taken(
            accepted=int(value["accepted"]),
            new=bool(value["new"]),
            new_labels=tuple(map(str, value.get("new_labels", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(error) from error


def _prediction(item: Mapping[str, Any]) -> PredictedText:
    unread = tuple(
        UnreadWords(start=int(u["start"]), end=int(u["end"]), reason=str(u["reason"]))
        for u in item.get("unread", ())
    )
    label, confidence, error = item.get("label"), item.get("confidence"), item.get("error")
    if not item:
        raise ValueError("a prediction is empty")
    return PredictedText(
        value=dict(item),
        label=None if label is None else str(label),
        confidence=None if confidence is None else float(confidence),
        scores=dict(item.get("scores", {})),
        unknown=item.get("unknown"),
        entities=tuple(
            PredictedEntity(
                start=int(e["start"]),
                end=int(e["end"]),
                type=str(e["type"]),
                text=str(e["text"]),
                score=float(e["score"]),
            )
            for e in item.get("entities", ())
        ),
        truncated=bool(item.get("truncated", False)) or any(u.reason == "cut" for u in unread),
        unread=unread,
        error=None if error is None else str(error),
    )


def _strange(error: Exception) -> ClientError:
    return ClientError(f"The answer is not one of contlearn's server: {error!r}.", status=200)
