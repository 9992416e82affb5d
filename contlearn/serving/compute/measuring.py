"""The search of `contlearn bench serving`: every layout on a version, the best one kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.inference.processor import available_cores
from contlearn.interfaces import FieldNames, Progress, no_progress
from contlearn.serving.compute.calibration import (
    FILE,
    Layout,
    best_of,
    candidates,
    find_best,
    keep_layout,
)

if TYPE_CHECKING:
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.plugins.manager import PluginManager

__all__ = ["measure_layouts"]


def measure_layouts(
    folder: Path,
    manager: PluginManager,
    state: Path,
    *,
    seconds: float,
    keep: bool = True,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Try every layout on a version.

    The texts are the golden ones: written by us, of every length, in no user's data.

    Args:
        folder: The version's model.
        manager: Knows its task.
        state: state/serving, where the server looks.
        seconds: For each layout.
        keep: Write the result down.
        progress: Told after each layout.
    Returns:
        `trials`, `best` and `path`.
    Raises:
        ServingError: When the model cannot be loaded.
    """
    from contlearn.inference.golden import GOLDEN_TEXTS
    from contlearn.inference.predictor import OnnxPredictor

    def opener(intra_threads: int) -> OnnxPredictor:
        return OnnxPredictor.load(
            folder, manager=manager, threads=1, intra_threads=intra_threads, verify=False
        )

    cores = available_cores()
    layouts = candidates(cores)
    first = opener(1)
    inputs = [first.task.read_inputs(text, FieldNames()) for text in GOLDEN_TEXTS]
    first.close()
    trials = []
    for trial in find_best(opener, inputs, cores=cores, seconds=seconds, layouts=layouts):
        trials.append(trial)
        progress("measuring", len(trials), len(layouts), "")
    default = Layout(threads=cores)
    best = keep_layout(state, trials, default) if keep else best_of(trials, default)
    return {
        "trials": [trial.to_json() for trial in trials],
        "best": best.to_json(),
        "path": str(state / FILE),
    }
