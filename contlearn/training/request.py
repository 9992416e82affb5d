"""What a fit is asked to do, and with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.interfaces import Task
from contlearn.plugins.manager import PluginManager
from contlearn.training.withdrawn import NOTHING_WITHDRAWN, Withdrawn
from contlearn.types import Experience, LabelledRecord

__all__ = ["FitRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """All that a fit depends on.

    Args:
        champion: The version folder to go on from; None begins from the base model.
        experience: The new records; its label space begins with the champion's.
        read_records: Gives the records with these ids; those that count no longer are left out.
        history: All records learnt before, for strategies that read them.
        withdrawn: What the champion has learnt and what counts no longer.
        left_out: Rows of the catalog that the state names as being in no sum.
        work: A folder for checkpoints; a fit that was killed goes on from there.
        output: Where `checkpoint/` and `state/` are written.
        unlabelled: A folder of texts without labels, for what learns from them.
    """

    task: Task
    manager: PluginManager
    model: ModelConfig
    training: TrainingConfig
    replay: ReplayConfig
    champion: Path | None
    experience: Experience
    read_records: Callable[[Sequence[str]], Sequence[LabelledRecord]]
    history: Sequence[LabelledRecord] = ()
    withdrawn: Withdrawn = NOTHING_WITHDRAWN
    left_out: Sequence[int] = ()
    work: Path
    output: Path
    unlabelled: Path | None = None
