"""How this machine serves fastest: threads, threads of one run, texts of one batch; measured.

The answer differs between processors by a factor, so it is looked for, not assumed: `contlearn
bench serving` tries the layouts on the champion and keeps the best under state/serving, where the
server finds it.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.inference.processor import available_cores, processor_features
from contlearn.workspace import write_json_atomic

if TYPE_CHECKING:
    from contlearn.config import ServingConfig
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.types import Inputs

__all__ = [
    "DEFAULT_BATCH",
    "Layout",
    "Trial",
    "candidates",
    "choose_layout",
    "find_best",
    "keep_layout",
    "machine",
    "measure",
]

FORMAT_VERSION: Final = 1
FILE: Final = "calibration.json"
DEFAULT_BATCH: Final = 8
# Another layout must be this much faster than the default one to be taken: noise is not a reason.
_MARGIN: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Threads that answer, cores one run is spread over, and texts a thread takes at once."""

    threads: int
    intra_threads: int = 1
    batch_texts: int = DEFAULT_BATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one layout reached. Units: texts a second; seconds for the slowest of twenty batches."""

    layout: Layout
    texts_per_second: float
    p95_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON."""
        return {
            "threads": self.layout.threads,
            "intra_threads": self.layout.intra_threads,
            "batch_texts": self.layout.batch_texts,
            "texts_per_second": round(self.texts_per_second, 1),
            "p95_milliseconds": round(1e3 * self.p95_seconds, 2),
        }


def machine() -> dict[str, Any]:
    """Say what a calibration holds for: this processor, these cores, this onnxruntime."""
    from importlib.metadata import version

    return {
        "processor": platform.machine(),
        "features": list(processor_features()),
        "cores": available_cores(),
        "onnxruntime": version("onnxruntime"),
    }


def candidates(cores: int) -> list[Layout]:
    """List the layouts worth trying: every split of the cores, each with several batches.

    Example:
        >>> len(candidates(2))
        6
    """
    splits = []
    threads = cores
    while threads >= 1:
        splits.append((threads, max(1, cores // threads)))
        threads //= 2
    return [
        Layout(threads=threads, intra_threads=intra, batch_texts=batch)
        for threads, intra in splits
        for batch in (1, DEFAULT_BATCH, 16)
    ]


def measure(
    predictor: OnnxPredictor, layout: Layout, inputs: Sequence[Inputs], seconds: float
) -> Trial:
    """Let the threads of a layout answer for a while.

    Args:
        predictor: Opened with the layout's `intra_threads`.
        layout: What to try.
        inputs: Short texts, asked in turns.
        seconds: How long.
    """
    times: list[list[float]] = [[] for _ in range(layout.threads)]
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        place = 37 * number
        while (begun := time.perf_counter()) < until:
            batch = [inputs[(place + i) % len(inputs)] for i in range(layout.batch_texts)]
            predictor.predict_detailed(batch)
            times[number].append(time.perf_counter() - begun)
            place += layout.batch_texts

    begun = time.perf_counter()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(layout.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begun
    everything = sorted(value for part in times for value in part)
    return Trial(
        layout=layout,
        texts_per_second=len(everything) * layout.batch_texts / elapsed,
        p95_seconds=everything[int(0.95 * (len(everything) - 1))] if everything else elapsed,
    )


def find_best(
    opener: Callable[[int], OnnxPredictor],
    inputs: Sequence[Inputs],
    *,
    cores: int,
    seconds: float,
    layouts: Sequence[Layout] | None = None,
) -> Iterator[Trial]:
    """Try every layout; the caller sees each trial as it ends.

    Args:
        opener: Opens the model with so many threads for one run.
        inputs: Short texts.
        cores: What there is.
        seconds: For each layout.
        layouts: Which to try; all worth trying if left out.
    """
    opened: tuple[int, OnnxPredictor] | None = None
    try:
        for layout in candidates(cores) if layouts is None else layouts:
            if opened is None or opened[0] != layout.intra_threads:
                if opened is not None:
                    opened[1].close()
                opened = (layout.intra_threads, opener(layout.intra_threads))
                opened[1].predict_detailed(inputs[:8])
            yield measure(opened[1], layout, inputs, seconds)
    finally:
        if opened is not None:
            opened[1].close()


def best_of(trials: Sequence[Trial], default: Layout) -> Trial:
    """Choose the default unless another is faster by the margin; of equals the quickest."""
    fastest = max(trials, key=lambda trial: trial.texts_per_second)
    usual = next((trial for trial in trials if trial.layout == default), fastest)
    if usual.texts_per_second >= fastest.texts_per_second * (1 - _MARGIN):
        return usual
    near = [t for t in trials if t.texts_per_second >= fastest.texts_per_second * (1 - _MARGIN)]
    return min(near, key=lambda trial: trial.p95_seconds)


def keep_layout(folder: Path, trials: Sequence[Trial], default: Layout) -> Trial:
    """Choose the best layout, and keep it with all trials for servers on this machine."""
    best = best_of(trials, default)
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(
        folder / FILE,
        {
            "format_version": FORMAT_VERSION,
            "machine": machine(),
            "best": best.to_json(),
            "trials": [trial.to_json() for trial in trials],
        },
    )
    return best


def choose_layout(folder: Path, serving: ServingConfig) -> Layout:
    """Give the layout to serve with: as configured, else as measured, else one thread a core.

    Args:
        folder: state/serving.
        serving: Zeros in it mean: as measured.
    """
    measured: dict[str, Any] = {}
    try:
        kept = json.loads((folder / FILE).read_bytes())
        if kept.get("format_version") == FORMAT_VERSION and kept.get("machine") == machine():
            measured = kept["best"]
    except (OSError, ValueError, KeyError, AttributeError):
        measured = {}
    return Layout(
        threads=serving.threads or int(measured.get("threads", available_cores())),
        intra_threads=serving.intra_threads or int(measured.get("intra_threads", 1)),
        batch_texts=serving.batch_texts or int(measured.get("batch_texts", DEFAULT_BATCH)),
    )
