"""The reference of a version: its first predictions, frozen, with what chance reaches for them.

`state/monitoring/reference-<version>.parquet` holds numbers and label names, never a text,
so that it outlives the log's own bounds and nothing has to be forgotten in it. It is written once a
version has answered enough, by one rename; a damaged file is made again from the log.
"""

from __future__ import annotations

import io
import json
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
_FACTS: Final = b"contlearn"


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
    return state / "monitoring" / f"reference-{version}.parquet"


def save_reference(path: Path, reference: Reference) -> None:
    """Write a reference whole, or not at all.

    Raises:
        StorageError: When the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sample = reference.sample
    columns: dict[str, Any] = {
        "label": pa.array(list(sample.labels), pa.string()),
        "request_id": pa.array([request for request, _ in sample.places], pa.string()),
        "index": pa.array([index for _, index in sample.places], pa.int64()),
        **{f"number/{name}": pa.array(values) for name, values in sample.numbers.items()},
    }
    if sample.has("languages"):
        columns["language"] = pa.array(list(sample.languages), pa.string())
    if sample.has("projections"):
        width = sample.projections.shape[1]
        flat = pa.array(np.ascontiguousarray(sample.projections).reshape(-1), pa.float64())
        columns["projection"] = pa.FixedSizeListArray.from_arrays(flat, width)
    facts = {
        "format_version": FORMAT_VERSION,
        "until": reference.until,
        "nulls": {name: values.tolist() for name, values in reference.nulls.items()},
    }
    table = pa.table(columns).replace_schema_metadata({_FACTS: json.dumps(facts)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        facts = json.loads(table.schema.metadata[_FACTS])
        if facts["format_version"] != FORMAT_VERSION:
            return None
        names = set(table.column_names)
        places = list(zip(table["request_id"].to_pylist(), table["index"].to_pylist(), strict=True))
        projections = np.zeros((0, 0))
        if "projection" in names:
            column = table["projection"].combine_chunks()
            projections = np.asarray(column.flatten()).reshape(len(column), -1)
        sample = Sample(
            projections,
            {n[7:]: table[n].to_numpy() for n in table.column_names if n.startswith("number/")},
            table["label"].to_pylist(),
            table["language"].to_pylist() if "language" in names else (),
            _texts(places, lines),
            places,
        )
        nulls = {name: np.array(values) for name, values in facts["nulls"].items()}
        return Reference(sample, nulls, str(facts["until"]))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
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
    for path in folder.glob("reference-*.parquet"):
        number = path.stem.partition("-")[2]
        if number.isdigit():
            numbered.append((int(number), path))
    return [path for _, path in sorted(numbered)[:-_KEPT]]
