"""One run: one spec with one seed through the whole stream, in a process of its own.

```
<run>/job.json         what to do
<run>/step-<t>.json    figures after experience t; a run that was killed goes on behind the last
<run>/version-<t>/     checkpoint and state of the newest experience
<run>/result.json      all figures; written last
```
Standard output carries one JSON object a line: progress, and why it failed.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.benchmark.measures import measures_of
from contlearn.benchmark.streams import Step, Stream, load_stream
from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.errors import TrainingError
from contlearn.interfaces import Task
from contlearn.plugins.manager import PluginManager
from contlearn.processes.answering import answer_parent, tell_progress
from contlearn.types import Experience, LabelledRecord, LabelSpace
from contlearn.workspace import read_json, write_json_atomic

if TYPE_CHECKING:
    from contlearn.modeling.checkpoint import Checkpoint

__all__ = ["accuracy_on", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the run in the folder named; 0 when done, else the error's exit code."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    return answer_parent(lambda: _Run(folder).execute(), unforeseen=TrainingError)


class _Run:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        job = read_json(folder / "job.json")
        self.stream: Stream = load_stream(Path(job["stream"]))
        self.model = ModelConfig.model_validate(job["model"])
        self.training = TrainingConfig.model_validate(job["training"])
        self.replay = ReplayConfig.model_validate(job["replay"])
        plugins = Path(job["plugins_dir"]) if job.get("plugins_dir") else None
        self.manager = PluginManager(folder=plugins, blocked=job["blocked"], quiet=True)
        self.task: Task = self.manager.task(self.stream.task, where="the stream")
        kind = self.manager.get("strategy", self.training.strategy, where="--strategy")
        self.reads_history = bool(kind.reads_history)
        if self.training.threads:
            import torch

            torch.set_num_threads(self.training.threads)

    def execute(self) -> None:
        steps, rows = self.stream.steps, []
        space = self.task.space_from_labels(())
        past: list[LabelledRecord] = []
        before: Path | None = None
        for t, step in enumerate(steps):
            space = self.task.outputs(space, [r.target for r in step.train])
            past.extend(step.train)
            if self.reads_history and t < len(steps) - 1:
                continue  # a reference is needed once, at the end
            output = self.folder / f"version-{t}"
            done = self.folder / f"step-{t}.json"
            if not done.is_file():
                shutil.rmtree(output, ignore_errors=True)
                write_json_atomic(done, self._learn(t, step, space, before, past, output))
            rows.append(read_json(done))
            if before is not None:
                shutil.rmtree(before, ignore_errors=True)
            before = output
            tell_progress("learning", t + 1, len(steps), step.name)
        result = measures_of(rows, steps=len(steps), is_reference=self.reads_history)
        result["seconds"] = round(sum(row["seconds"] for row in rows), 2)
        result["notes"] = [row["notes"] for row in rows]
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        write_json_atomic(self.folder / "result.json", result)

    def _learn(
        self,
        t: int,
        step: Step,
        space: LabelSpace,
        before: Path | None,
        past: Sequence[LabelledRecord],
        output: Path,
    ) -> dict[str, Any]:
        from contlearn.training.fit import FitRequest, fit_challenger

        found = {record.record_id: record for record in past}
        history = past[: len(past) - len(step.train)] if self.reads_history else ()
        output.mkdir(parents=True)
        started = time.monotonic()
        result = fit_challenger(
            FitRequest(
                task=self.task,
                manager=self.manager,
                model=self.model,
                training=self.training,
                replay=self.replay,
                champion=before,
                experience=Experience(
                    index=t,
                    records=step.train,
                    label_space=space,
                    content_hash=Experience.hash_of(r.record_id for r in step.train),
                ),
                read_records=lambda ids: [found[i] for i in ids],
                history=tuple(history),
                work=self.folder / f"work-{t}",
                output=output,
            ),
            progress=lambda stage, _done, _total, message: tell_progress(
                "learning", t, len(self.stream.steps), f"{step.name}: {message or stage}"
            ),
        )
        seconds = time.monotonic() - started
        shutil.rmtree(self.folder / f"work-{t}", ignore_errors=True)
        notes = dict(result.notes)
        choice: Any = notes.get("choice") or {}
        return {
            "t": t,
            "seconds": seconds,
            "notes": {"choice": choice.get("chosen"), "trained_share": result.trained_share},
            **self._measure(t, output),
        }

    def _measure(self, t: int, output: Path) -> dict[str, Any]:
        """Score every experience whose labels are all known, and say which rows are right."""
        from contlearn.modeling.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(output / "checkpoint")
        space = checkpoint.model.labels
        known = set(space.names)
        found: dict[str, Any] = {"dev": [], "test": [], "right": [], "chance": 1 / len(space)}
        for k, step in enumerate(self.stream.steps):
            for part in ("dev", "test"):
                records = getattr(step, part)
                wanted = self.task.outputs(LabelSpace(), [r.target for r in records])
                if k > t and not set(wanted.names) <= known:
                    found[part].append(None)
                    continue
                answers, targets, score = _scored(
                    self.task, checkpoint, records, max_tokens=self.model.max_tokens
                )
                found[part].append(score)
                if part == "test" and k <= t:
                    found["right"].append(
                        [int(a == b) for a, b in zip(answers, targets, strict=True)]
                    )
        return found


def accuracy_on(
    task: Task, version: Path, records: Sequence[LabelledRecord], *, max_tokens: int
) -> float:
    """Score a version's checkpoint on records by the task's primary metric."""
    from contlearn.modeling.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(version / "checkpoint")
    return _scored(task, checkpoint, records, max_tokens=max_tokens)[2]


def _scored(
    task: Task, checkpoint: Checkpoint, records: Sequence[LabelledRecord], *, max_tokens: int
) -> tuple[list[Any], list[Any], float]:
    """Give answers, targets and score; a row whose label was never learnt counts as wrong."""
    from contlearn.training.encoded import encode_records
    from contlearn.training.scoring import answers_of, logits_of

    space = checkpoint.model.labels
    known = set(space.names)
    usable = [r for r in records if set(task.outputs(LabelSpace(), [r.target]).names) <= known]
    data = encode_records(usable, checkpoint, task=task, space=space, max_tokens=max_tokens)
    answers, targets = answers_of(task, data, logits_of(checkpoint.model, data), space)
    if not answers:
        return answers, targets, 0.0
    sums = task.statistics(answers, targets, space).sum(axis=0)
    score = float(task.summarise(sums, space)[task.primary_metric])
    return answers, targets, score * len(usable) / max(len(records), 1)
