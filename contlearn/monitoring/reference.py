"""The reference of a version: its first predictions, frozen, with what chance reaches for them.

`state/monitoring/reference-<version>.npz` holds columns of numbers and label names, never a text,
so that it outlives the log's own bounds and nothing has to be forgotten in it. It is written once a
version has answered enough, by one rename; a damaged file is made again from the log.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contlearn.monitoring.sample import Sample
from contlearn.workspace import write_bytes_atomic

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["Reference", "load_reference", "reference_path", "save_reference"]

FORMAT_VERSION: Final = 1
# References of versions long gone are taken away.
_KEPT: Final = 20


class Reference:
    """A frozen sample and the nulls that were computed for it.

    Args:
        sample: The first predictions of a version.
        nulls: What chance reaches, by detector and window size.
        until: The moment of its last prediction; windows begin after it.
    """

    def __init__(self, sample: Sample, nulls: dict[str, FloatArray], until: str) -> None:
        self.sample = sample
        self.nulls = nulls
        self.until = until


def reference_path(state: Path, version: int) -> Path:
    """Give the file of a version below the workspace's `state` folder."""
    return state / "monitoring" / f"reference-{version}.npz"


def save_reference(path: Path, reference: Reference) -> None:
    """Write a reference whole, or not at all.

    Raises:
        StorageError: When the disk refuses.
    """
    sample = reference.sample
    arrays: dict[str, Any] = {
        "format_version": np.array(FORMAT_VERSION),
        "until": np.array(reference.until),
        "projections": sample.projections,
        "labels": np.array(list(sample.labels), dtype=np.str_),
        "languages": np.array(list(sample.languages), dtype=np.str_),
        "requests": np.array([request for request, _ in sample.places], dtype=np.str_),
        "indices": np.array([index for _, index in sample.places], dtype=np.int64),
        **{f"number/{name}": values for name, values in sample.numbers.items()},
        **{f"null/{name}": values for name, values in reference.nulls.items()},
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, buffer.getvalue())
    for old in _oldest(path.parent):
        old.unlink(missing_ok=True)


def load_reference(path: Path, lines: Sequence[Mapping[str, Any]] = ()) -> Reference | None:
    """Read a reference; None when there is none or it is damaged.

    Args:
        path: Of the version.
        lines: The log as it stands: texts are taken from there, where they are logged, so that
            what was forgotten there is forgotten here.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            if int(stored["format_version"]) != FORMAT_VERSION:
                return None
            numbers = {k[7:]: stored[k] for k in stored.files if k.startswith("number/")}
            nulls = {k[5:]: stored[k] for k in stored.files if k.startswith("null/")}
            places = list(zip(stored["requests"].tolist(), stored["indices"].tolist(), strict=True))
            sample = Sample(
                stored["projections"],
                numbers,
                stored["labels"].tolist(),
                stored["languages"].tolist(),
                _texts(places, lines),
                places,
            )
            return Reference(sample, nulls, str(stored["until"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _texts(places: Sequence[tuple[str, int]], lines: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    known = {
        (str(line.get("request_id", "")), int(line.get("index", 0))): line["text"]
        for line in lines
        if isinstance(line.get("text"), str)
    }
    found = [known.get(place, "") for place in places]
    return found if found and sum(map(bool, found)) >= 0.9 * len(found) else ()


def _oldest(folder: Path) -> list[Path]:
    numbered = []
    for path in folder.glob("reference-*.npz"):
        number = path.stem.partition("-")[2]
        if number.isdigit():
            numbered.append((int(number), path))
    return [path for _, path in sorted(numbered)[:-_KEPT]]
