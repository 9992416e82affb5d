"""Labels for earlier requests: checked, joined with their texts, and put into the inbox."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contlearn.interfaces import FieldNames, RowProblem, Task
from contlearn.serving.problems import RequestProblem
from contlearn.tasks.spans import placed_words, span_key, tags_from_spans
from contlearn.types import Inputs
from contlearn.workspace import write_bytes_atomic

__all__ = ["FeedbackDesk", "RecentRequests"]


@dataclass
class RecentRequests:
    """The inputs of the last requests, in memory only, bounded in number and size.

    Args:
        requests: How many at most.
        characters: How much text at most.
    """

    requests: int = 20_000
    characters: int = 20_000_000
    _kept: OrderedDict[str, tuple[Sequence[Inputs], int]] = field(
        default_factory=OrderedDict, init=False
    )
    _size: int = field(default=0, init=False)

    def keep(self, request_id: str, inputs: Sequence[Inputs], characters: int) -> None:
        """Remember a request; the oldest are forgotten."""
        old = self._kept.pop(request_id, None)
        if old is not None:
            self._size -= old[1]
        self._kept[request_id] = (inputs, characters)
        self._size += characters
        while self._kept and (len(self._kept) > self.requests or self._size > self.characters):
            _, (_, size) = self._kept.popitem(last=False)
            self._size -= size

    def find(self, request_id: str, index: int) -> Inputs | None:
        """Give one input of an earlier request, or None."""
        kept = self._kept.get(request_id)
        if kept is None or not 0 <= index < len(kept[0]):
            return None
        return kept[0][index]


@dataclass
class FeedbackDesk:
    """Takes labels for earlier requests.

    A label becomes one file of the inbox, named after what is in it: sent twice, it is the same
    file, and a file of known content is taken in once. So a client may repeat what it is not sure
    about, also after a crash of either side.

    Args:
        inbox: Where the files land.
        task: Checks the rows.
        fields: Names the fields of a row.
        recent: Finds the texts.
    """

    inbox: Path
    task: Task
    fields: FieldNames
    recent: RecentRequests = field(default_factory=RecentRequests)

    def row(self, item: object, where: str) -> dict[str, Any]:
        """Join a label with its text, and check the row as the inbox will.

        Raises:
            RequestProblem: 400 when it is wrong, 404 when the request is not known any more.
        """
        if not isinstance(item, Mapping):
            raise RequestProblem(400, "The label is not an object.", where=where)
        request_id, index = item.get("request_id"), item.get("index", 0)
        if not isinstance(request_id, str) or not isinstance(index, int) or "label" not in item:
            raise RequestProblem(
                400,
                "A label needs request_id, label, and index where there were several texts.",
                where=where,
                hint='For example {"request_id": "…", "index": 0, "label": "billing"}.',
            )
        inputs = self.recent.find(request_id, index)
        if inputs is None and isinstance(item.get("text"), str):
            inputs = {"text": item["text"]}
        if inputs is None:
            raise RequestProblem(
                404,
                f"Text {index} of the request {request_id[:130]!r} is not known any more.",
                where=where,
                hint="Send the text along: add the field `text`.",
            )
        try:
            if self.is_tagging:
                row = self._tagged(inputs, item["label"])
            else:
                names = {"text": self.fields.text}
                row = {names.get(name, name): value for name, value in inputs.items()}
                row[self.fields.label] = item["label"]
            self.task.read_fields(row, self.fields)
        except RowProblem as problem:
            raise RequestProblem(
                400, problem.message, where=where, hint=problem.hint or None
            ) from problem
        return row

    @property
    def is_tagging(self) -> bool:
        """Say whether labels are entities."""
        return self.task.graph == "token-classification"

    def _tagged(self, inputs: Inputs, label: object) -> dict[str, Any]:
        """Join words with their tags; entities as the server answers them are taken too."""
        tags = label
        if isinstance(label, list) and not all(isinstance(tag, str) for tag in label):
            tags = tags_from_spans(inputs, label)
        elif isinstance(label, list) and not label:
            tags = tags_from_spans(inputs, ())
        words = [word for word, _, _ in placed_words(inputs)]
        return {self.fields.tokens: words, self.fields.tags: tags}

    def answer_of(self, row: Mapping[str, Any]) -> str:
        """Give what the log compares with its own answer: the label, or the key of the entities."""
        if self.is_tagging:
            return span_key(row[self.fields.tags])
        return str(row[self.fields.label])

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
