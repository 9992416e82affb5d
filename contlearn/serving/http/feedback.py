"""Labels for earlier requests: checked, joined with their texts, and put into the inbox."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from contlearn.config import Config, DataConfig
from contlearn.interfaces import FieldNames, RowProblem, Task
from contlearn.serving.http.known_labels import KnownLabels
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.request_ids import is_id
from contlearn.tasks.rows import normal_text
from contlearn.types import Inputs
from contlearn.workspace import write_bytes_atomic

__all__ = ["CheckedLabels", "FeedbackDesk", "LabelledAnswer", "RecentRequests"]

# No request has more texts; beyond it a place is a mistake.
_MOST_TEXTS: Final = 1_000_000


@dataclass
class RecentRequests:
    """The inputs of the last requests, in memory only, bounded in number and size.

    Args:
        requests: How many at most.
        characters: How much text at most.
    """

    requests: int = 20_000
    characters: int = 20_000_000
    _kept: OrderedDict[str, tuple[Mapping[int, Inputs], int]] = field(
        default_factory=OrderedDict, init=False
    )
    _size: int = field(default=0, init=False)

    def has(self, request_id: str) -> bool:
        """Say whether a request of this id is remembered."""
        return request_id in self._kept

    def keep(self, request_id: str, inputs: Mapping[int, Inputs], characters: int) -> None:
        """Remember the inputs of a request by their places.

        The oldest requests are forgotten, and the first that had an id keeps it.
        """
        if request_id in self._kept:
            return
        self._kept[request_id] = (inputs, characters)
        self._size += characters
        while self._kept and (len(self._kept) > self.requests or self._size > self.characters):
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size

    def find(self, request_id: str, index: int) -> Inputs | None:
        """Give one input of an earlier request, or None."""
        kept = self._kept.get(request_id)
        return None if kept is None else kept[0].get(index)


class CheckedLabels(NamedTuple):
    """Labels that can be taken, and the names among them that no record had before."""

    answers: tuple[LabelledAnswer, ...]
    new_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledAnswer:
    """A label for an earlier answer, as it goes into the inbox and into the log.

    `answer` is what the log compares with its own: the key of the target, a class or a hash.
    """

    request_id: str
    index: int
    row: dict[str, Any]
    answer: str


@dataclass
class FeedbackDesk:
    """Takes labels for earlier requests.

    A label becomes one file of the inbox, named after what is in it: sent twice, it is the same
    file, and a file of known content is taken in once. So a client may repeat what it is not sure
    about, also after a crash of either side. What the inbox would refuse is refused here, at once,
    and an alias is resolved here, so that the measured accuracy counts the label that was meant.

    Args:
        inbox: Where the files land.
        task: Checks the rows.
        fields: Names the fields of a row, where `labels` does not.
        recent: Finds the texts.
        labels: The configuration and the labels that rows are checked by.
    """

    inbox: Path
    task: Task
    fields: FieldNames = field(default_factory=FieldNames)
    recent: RecentRequests = field(default_factory=RecentRequests)
    labels: KnownLabels | None = None

    def row(self, item: object, where: str) -> dict[str, Any]:
        """Check one label, and give the row that goes into the inbox; see `check`."""
        return self.check([item], [where]).answers[0].row

    def check(self, items: Sequence[object], where: Sequence[str]) -> CheckedLabels:
        """Join labels with their texts, and check the rows exactly as the inbox will.

        Args:
            items: What was sent.
            where: Where each stands in the request, for messages.
        Raises:
            RequestProblem: 400 when one is wrong or its label would be refused, 404 when a request
                is not known any more, 409 when another text was sent along than was asked.
        """
        known = self._known()
        known.read_config()
        joined = [self._joined(item, place) for item, place in zip(items, where, strict=True)]
        try:
            found = self._checked(known, joined, where)
        except RequestProblem:
            # Files may have brought labels since they were read last.
            if not known.read_names():
                raise
            return self._checked(known, joined, where)
        if found.new_labels and known.read_names():
            return self._checked(known, joined, where)
        return found

    def _known(self) -> KnownLabels:
        if self.labels is None:
            names = self.fields
            data = DataConfig(
                text=names.text, label=names.label, tokens=names.tokens, tags=names.tags
            )
            self.labels = KnownLabels(Config(data=data))
        return self.labels

    def _joined(self, item: object, where: str) -> tuple[str, int, Inputs, object]:
        """Find the text that a label is for."""
        if not isinstance(item, Mapping):
            raise RequestProblem(400, "The label is not an object.", where=where)
        request_id, index = item.get("request_id"), item.get("index", 0)
        if (
            not isinstance(request_id, str)
            or not isinstance(index, int)
            or isinstance(index, bool)
            or "label" not in item
        ):
            raise RequestProblem(
                400,
                "A label needs request_id, label, and index where there were several texts.",
                where=where,
                hint='For example {"request_id": "…", "index": 0, "label": "billing"}.',
            )
        text = item.get("text")
        inputs = self.recent.find(request_id, index)
        if inputs is None:
            if not (isinstance(text, str) and is_id(request_id) and 0 <= index < _MOST_TEXTS):
                raise RequestProblem(
                    404,
                    f"Text {index} of the request {request_id[:130]!r} is not known any more.",
                    where=where,
                    hint="Send the text along: add the field `text`.",
                )
            inputs = {"text": text}
        elif isinstance(text, str) and normal_text(text) != normal_text(self.task.text_of(inputs)):
            raise RequestProblem(
                409,
                f"The text sent along is not text {index} of the request {request_id[:130]!r}.",
                where=where,
                hint="Leave the field `text` out, or name the request that the text was sent in: "
                "`request_id` stands in every answer.",
            )
        return request_id, index, inputs, item["label"]

    def _checked(
        self,
        known: KnownLabels,
        joined: Sequence[tuple[str, int, Inputs, object]],
        where: Sequence[str],
    ) -> CheckedLabels:
        checker, fields = known.checker(self.task), known.config.data.field_names()
        answers: list[LabelledAnswer] = []
        places: dict[str, str] = {}
        for (request_id, index, inputs, label), place in zip(joined, where, strict=True):
            try:
                row = self.task.join(inputs, label, fields)
                target = checker.check(row).target
            except RowProblem as problem:
                raise RequestProblem(
                    400, problem.message, where=place, hint=problem.hint or None
                ) from problem
            for name in self.task.labels_of(target):
                places.setdefault(name, place)
            row |= self.task.write_row(inputs, target, fields)
            key = self.task.key_of(target)
            answers.append(LabelledAnswer(request_id=request_id, index=index, row=row, answer=key))
        rows_of = functools.partial(known.rows_of, separator=self.task.key_separator)
        for near in checker.book.settle(rows_of):
            if near.is_refused and near.label in places:
                raise RequestProblem(
                    400,
                    near.message,
                    where=places[near.label],
                    hint=checker.book.hint(near.label, near.near),
                )
        return CheckedLabels(tuple(answers), tuple(checker.new_labels))

    def accept(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Put the rows into the inbox.

        Returns:
            False when the very same rows wait there already.
        Raises:
            StorageError: When the disk refuses.
        """
        lines = sorted(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows)
        data = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
        path = self.inbox / f"feedback-{hashlib.sha256(data).hexdigest()[:24]}.jsonl"
        if path.exists():
            return False
        # As the log of predictions, where the texts come from.
        write_bytes_atomic(path, data, mode=0o640)
        return True
