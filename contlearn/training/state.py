"""What a version remembers besides its weights, so that the next update goes on from there.

```
state/
  state.json               format version, counters, encoder hash, the replay buffer (its own state,
                           the ids it keeps, which of them no training has seen; no texts), and the
                           rows of the catalog that it planned to learn and that are in no sum
  statistics.safetensors   feature statistics under this version's encoder, where the task has them
  regularizers/<name>/     what each regulariser keeps
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import RegistryError
from contlearn.types import LabelledRecord, LabelSpace
from contlearn.workspace import read_json, storage_border, write_json_atomic

if TYPE_CHECKING:
    from torch import nn

    from contlearn.training.statistics import FeatureStatistics

__all__ = ["DurableState", "buffered_ids", "encoder_hash", "left_out_rows", "record_bytes"]

FORMAT_VERSION: Final = 1


@dataclass(slots=True)
class DurableState:
    """State of one version; `folder` is where it was read from."""

    experiences: int = 0
    records_seen: int = 0
    encoder_sha256: str = ""
    buffer: Mapping[str, Any] | None = None
    # The ids of the exemplars in the buffer, whose own state only the buffer can read.
    kept: tuple[str, ...] = ()
    statistics: FeatureStatistics | None = None
    # Exemplars that no training has seen: those that tell what is forgotten.
    unseen: frozenset[str] = frozenset()
    # Rows of the lineage that count no longer and are in none of the sums.
    left_out: frozenset[int] = frozenset()
    folder: Path | None = None
    strategy: str = ""
    base: str = ""
    experience: int = 0
    # The settings that won the last search: the next one begins there.
    search: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path | None, labels: LabelSpace) -> DurableState:
        """Read a version's state; without a version, begin with nothing.

        Raises:
            RegistryError: When it is damaged or of another format version.
        """
        if folder is None:
            return cls()
        facts = read_json(folder / "state.json")
        if facts.get("format_version") != FORMAT_VERSION:
            raise RegistryError(
                f"The state has format version {facts.get('format_version')}, "
                f"not {FORMAT_VERSION}.",
                where=str(folder / "state.json"),
                hint="Use the contlearn that wrote it, or begin again from the base model.",
            )
        statistics = None
        if (folder / "statistics.safetensors").is_file():
            from contlearn.training.statistics import FeatureStatistics

            statistics = FeatureStatistics.load(folder / "statistics.safetensors", labels)
        return cls(
            experiences=int(facts["experiences"]),
            records_seen=int(facts["records_seen"]),
            encoder_sha256=str(facts["encoder_sha256"]),
            buffer=facts["buffer"],
            kept=_kept(facts),
            statistics=statistics,
            unseen=frozenset(facts.get("unseen", ())),
            left_out=frozenset(facts.get("left_out", ())),
            folder=folder,
            strategy=str(facts.get("strategy", "")),
            base=str(facts.get("base", "")),
            experience=int(facts.get("experience", 0)),
            search=facts.get("search") or {},
        )

    def save(self, folder: Path) -> None:
        """Write the state, the regularisers' part excepted.

        Raises:
            StorageError: When the disk is full or may not be written.
        """
        with storage_border("write the state of the version", folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.statistics is not None:
                self.statistics.save(folder / "statistics.safetensors")
            write_json_atomic(
                folder / "state.json",
                {
                    "format_version": FORMAT_VERSION,
                    "experiences": self.experiences,
                    "records_seen": self.records_seen,
                    "encoder_sha256": self.encoder_sha256,
                    "buffer": self.buffer,
                    "kept": list(self.kept),
                    "unseen": sorted(self.unseen),
                    "left_out": sorted(self.left_out),
                    "strategy": self.strategy,
                    "base": self.base,
                    "experience": self.experience,
                    **({"search": dict(self.search)} if self.search else {}),
                },
            )


def buffered_ids(folder: Path) -> tuple[str, ...]:
    """Give the ids of the records in a version's replay buffer, if it has one."""
    return _kept(read_json(folder / "state.json"))


def _kept(facts: Mapping[str, Any]) -> tuple[str, ...]:
    if "kept" in facts:
        return tuple(facts["kept"])
    # Versions of before named them only in the state of the built-in buffers.
    slots: Mapping[str, Any] = (facts["buffer"] or {}).get("slots", {})
    return tuple(str(item[0]) for slot in slots.values() for item in slot)


def left_out_rows(folder: Path) -> frozenset[int]:
    """Give the rows of a version's lineage that count no longer and that its sums do not hold."""
    return frozenset(read_json(folder / "state.json").get("left_out", ()))


def encoder_hash(encoder: nn.Module) -> str:
    """Identify an encoder by its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode("utf-8"))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def record_bytes(record: LabelledRecord) -> int:
    """Say how many bytes the inputs and the target of a record take as UTF-8."""

    def size(value: object) -> int:
        if isinstance(value, str):
            return len(value.encode("utf-8"))
        if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
            return sum(len(part.encode("utf-8")) + 1 for part in value)
        return len(json.dumps(value, ensure_ascii=False).encode("utf-8"))

    return sum(size(value) for value in record.inputs.values()) + size(record.target)
