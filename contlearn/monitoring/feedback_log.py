"""Labels that came back for earlier requests: kept by request id, joined with the prediction log.

Lines of JSON in `state/feedback/<day>.jsonl`; no text, so that nothing has to be forgotten here but
whole days. Standard library only: the server writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contlearn.config import DataConfig

__all__ = ["FeedbackLog", "join_feedback", "read_feedback", "resolved_labels"]


class FeedbackLog:
    """Appends labels; several servers may write the same day's file.

    Args:
        folder: state/feedback.
        max_days: Files of older days go.
    """

    def __init__(self, folder: Path, *, max_days: int = 90) -> None:
        self.folder = folder
        self.max_days = max_days

    def add(self, items: Iterable[tuple[str, int, str]], now: datetime) -> None:
        """Write labels down.

        Args:
            items: Request id, place of the text in its request, and the label, or for entities
                the key that the log names them by.
            now: When they came.
        Raises:
            OSError: When the disk refuses.
        """
        moment = now.astimezone(UTC).isoformat(timespec="milliseconds")
        data = "".join(
            json.dumps(
                {"time": moment, "request_id": request_id, "index": index, "label": label},
                ensure_ascii=False,
            )
            + "\n"
            for request_id, index, label in items
        ).encode("utf-8", "replace")
        if not data:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{moment[:10]}.jsonl"
        is_new = not path.exists()
        # One write in append mode: writers never mix lines, and a kill cuts the last one at most.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # what a full disk or a kill has cut takes no other along
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        if is_new:
            for old in sorted(self.folder.glob("*.jsonl"))[: -self.max_days]:
                old.unlink(missing_ok=True)


def read_feedback(folder: Path) -> dict[tuple[str, int], str]:
    """Give the label of each text that has one; the last that came counts."""
    found: dict[tuple[str, int], str] = {}
    for path in sorted(folder.glob("*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:  # taken away in between
            continue
        for line in lines:
            try:
                value = json.loads(line)
                found[str(value["request_id"]), int(value["index"])] = str(value["label"])
            except (ValueError, KeyError, TypeError):
                continue
    return found


def resolved_labels(
    labels: Mapping[tuple[str, int], str], data: DataConfig
) -> dict[tuple[str, int], str]:
    """Give the labels under the names that the model knows them by.

    A server resolves aliases when a label comes. Labels logged by one of before, or before the
    alias was named, are resolved here; those outside a closed set are no labels. The keys of
    entities hold no names, and stay.
    """
    is_closed = bool(data.labels) and not data.allow_new_labels
    found = {key: data.label_aliases.get(label, label) for key, label in labels.items()}
    if not is_closed:
        return found
    names = frozenset(data.labels)
    return {key: label for key, label in found.items() if label in names}


def join_feedback(
    lines: Iterable[Mapping[str, Any]], labels: Mapping[tuple[str, int], str]
) -> list[tuple[Mapping[str, Any], bool]]:
    """Give the logged predictions whose label came, oldest first, and whether each was right.

    A text with entities is right when all of them are. Where two answers have one id, the label is
    that of the first.
    """
    joined = []
    seen = set()
    for line in sorted(lines, key=lambda line: str(line.get("time", ""))):
        key = (str(line.get("request_id")), int(line.get("index", 0)))
        if key in seen:
            continue
        seen.add(key)
        label = labels.get(key)
        predicted = line.get("labels", ())
        answer = line.get("answer", predicted[0] if len(predicted) == 1 else None)
        if label is not None and answer is not None:
            joined.append((line, answer == label))
    return joined
