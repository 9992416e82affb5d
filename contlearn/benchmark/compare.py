"""The comparison: every spec with every seed, one process each, resumed after a kill."""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from contlearn.benchmark.measures import FIGURES
from contlearn.benchmark.page import write_page
from contlearn.benchmark.result import BenchmarkResult, Summary
from contlearn.benchmark.specs import ALWAYS, RATES, TUNED, Spec, parse_spec
from contlearn.benchmark.streams import Stream, save_stream
from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.errors import ConfigError, TrainingError, UsageError
from contlearn.interfaces import Task
from contlearn.plugins.manager import PluginManager
from contlearn.processes.children import progress_of, run_child
from contlearn.training.checks import check_buffer, check_learners
from contlearn.wording import percent
from contlearn.workspace import (
    file_lock,
    output_border,
    read_json,
    storage_border,
    write_json_atomic,
)

__all__ = ["BenchmarkResult", "Summary", "compare_strategies"]

ROWS: Final = "rows.jsonl"
# A strategy is recommended instead of the default only if it leads by more than this.
_CLEAR_LEAD: Final = 0.01
Report = Callable[[str], None]


def compare_strategies(
    stream: Stream,
    *,
    output: Path,
    strategies: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    base: str | None = None,
    max_tokens: int | None = None,
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    replay: ReplayConfig | None = None,
    settings: Mapping[str, Any] | None = None,
    manager: PluginManager | None = None,
    only: bool = False,
    report: Report | None = None,
) -> BenchmarkResult:
    """Learn a stream with every strategy and every seed, and compare.

    Runs that have a row in `output`/rows.jsonl already are not made again; a run that was killed
    goes on behind its last experience.

    Args:
        stream: The experiences.
        output: Where rows, table, JSON and page are written.
        strategies: Specs as `parse_spec` reads them; those of `ALWAYS` are there besides.
        seeds: Of all randomness.
        base: The base model, instead of the one in `model`.
        max_tokens: Longer texts are cut; instead of what `model` says.
        model: [model] of the configuration.
        training: [training]; each spec changes it.
        replay: [replay].
        settings: Keys of [training] that all specs share.
        manager: Where strategies are looked up; the runs load its folder of loose plugins too.
        only: Leave out what `ALWAYS` names.
        report: Called with one line whenever there is something to say.
    Raises:
        UsageError: When there is no seed, or no strategy.
        PluginError: When a strategy or an option is not known.
        ConfigError: When what was named needs more than the task gives.
        TrainingError: When a run fails.
    """
    if not seeds:
        raise UsageError("There is no seed.", where="--seed", hint="Give at least one.")
    manager = manager or PluginManager()
    names = list(dict.fromkeys([*(() if only else ALWAYS), *strategies]))
    if not names:
        raise UsageError(
            "There is nothing to compare.",
            where="--only",
            hint="Name strategies with --strategy, or leave --only out.",
        )
    training, replay, report = (
        training or TrainingConfig(),
        replay or ReplayConfig(),
        report or _say,
    )
    specs = [parse_spec(name, manager=manager, settings=settings) for name in names]
    task: Task = manager.task(stream.task, where="model.task")
    check_buffer(replay, task, manager)
    specs = list(_fitting(specs, strategies, training, task, manager, report))
    settled = model or ModelConfig(task=stream.task)
    if base is not None:
        settled = settled.model_copy(update={"base": base})
    if max_tokens is not None:
        settled = ModelConfig.model_validate({**settled.model_dump(), "max_tokens": max_tokens})
    with storage_border("write the comparison", output), output_border(output):
        output.mkdir(parents=True, exist_ok=True)
    with file_lock(output / ".lock", what="comparing strategies here"):
        plan = _Plan(
            stream=stream,
            output=output,
            model=settled.model_copy(update={"task": stream.task}),
            training=training,
            replay=replay,
            plugins_dir=manager.folder,
            blocked=sorted(manager.blocked),
            report=report,
            left=sum(_runs_of(spec, seeds) for spec in specs),
        )
        rows = plan.run(specs, seeds)
        result = replace(
            _judge(rows, specs, output, tuple(step.name for step in stream.steps)),
            primary_metric=task.primary_metric,
        )
        write_json_atomic(output / "result.json", result.to_json())
        write_page(result, output / "index.html")
        (output / "table.md").write_text(result.table() + "\n", encoding="utf-8")
    return result


def _say(_line: str) -> None:
    """Say nothing, where nobody listens."""


def _fitting(
    specs: Sequence[Spec],
    named: Sequence[str],
    training: TrainingConfig,
    task: Task,
    manager: PluginManager,
    report: Report,
) -> Iterator[Spec]:
    """Give the specs that the task can be learnt with; one that was named must be among them.

    Raises:
        ConfigError: When one that was named needs more than the task gives.
    """
    for spec in specs:
        try:
            check_learners(spec.config(training, seed=0), task, manager)
        except ConfigError as error:
            if spec.name in named:
                raise ConfigError(error.what, where="--strategy", hint=error.hint) from error
            report(f"{spec.name} is left out: {error.what}")
        else:
            yield spec


@dataclass
class _Plan:
    """Everything that the runs of one comparison share."""

    stream: Stream
    output: Path
    model: ModelConfig
    training: TrainingConfig
    replay: ReplayConfig
    plugins_dir: Path | None
    blocked: Sequence[str]
    report: Report
    left: int
    times: list[float] = field(default_factory=list)

    def run(self, specs: Sequence[Spec], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Make every run that has no row yet; give the rows of these specs and seeds."""
        found: list[dict[str, Any]] = []
        work = self.output / "work"
        for spec in specs:
            chosen = self._tuned(spec, seeds[0]) if spec.name == TUNED else spec
            for number, seed in enumerate(seeds):
                row = self._row(chosen, seed)
                found.append({**row, "name": spec.name, "reads_history": spec.reads_history})
                # The first seed of the tuned one was counted while it was tuned.
                self.left -= spec.name != TUNED or number > 0
        shutil.rmtree(work, ignore_errors=True)
        return found

    def _tuned(self, spec: Spec, seed: int) -> Spec:
        """Choose the learning rate on development rows."""
        tried = []
        for rate in RATES:
            row = self._row(spec.with_rate(rate), seed, f"{spec.name} at {rate:g}")
            tried.append((row["dev_accuracy"], rate))
            self.left -= 1
        best = max(tried)[1]
        self.report(f"{spec.name}: learning rate {best:g} is best on development rows")
        return spec.with_rate(best)

    def _row(self, spec: Spec, seed: int, title: str = "") -> dict[str, Any]:
        title = title or spec.name
        facts = {
            "stream": self.stream.content_hash,
            "model": self.model.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "replay": self.replay.model_dump(mode="json"),
        }
        key = spec.key(seed=seed, **facts)
        for row in self._rows():
            if row["key"] == key:
                return row
        started = time.monotonic()
        self.report(f"{title}, seed {seed}{self._time_left()}")
        row = {
            "key": key,
            "strategy": spec.strategy,
            "seed": seed,
            **self._execute(spec, seed, key, title),
        }
        self.times.append(time.monotonic() - started)
        row["training"] = dict(spec.training)
        row["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
        row["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        with (
            storage_border("write the comparison", self.output),
            (self.output / ROWS).open("a", encoding="utf-8") as lines,
        ):
            lines.write(json.dumps(row) + "\n")
        self.report(
            f"{title}, seed {seed}: {100 * row['average_accuracy']:.1f} % in {row['seconds']:.0f} s"
        )
        return row

    def _rows(self) -> list[dict[str, Any]]:
        """Read the rows; a line that a kill cut off is passed over."""
        path = self.output / ROWS
        found = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def _execute(self, spec: Spec, seed: int, key: str, title: str) -> dict[str, Any]:
        stream = self.output / "work" / "stream.json"
        folder = self.output / "work" / key
        with storage_border("prepare a run", self.output):
            folder.mkdir(parents=True, exist_ok=True)
            save_stream(self.stream, stream)
        write_json_atomic(
            folder / "job.json",
            {
                "stream": str(stream.absolute()),
                "model": self.model.model_dump(mode="json"),
                "training": spec.config(self.training, seed=seed).model_dump(mode="json"),
                "replay": self.replay.model_dump(mode="json"),
                "plugins_dir": str(self.plugins_dir.absolute()) if self.plugins_dir else None,
                "blocked": list(self.blocked),
            },
        )
        last = 0

        def hear(message: Mapping[str, Any]) -> None:
            nonlocal last
            step = progress_of(message)
            if step is not None and step[1] > last:
                last = step[1]
                self.report(f"  {title}, seed {seed}: {last}/{step[2]}")

        end = run_child(
            "contlearn.benchmark", [str(folder.absolute())], log=folder / "log.txt", on_message=hear
        )
        if (folder / "result.json").is_file():
            result: dict[str, Any] = read_json(folder / "result.json")
            shutil.rmtree(folder, ignore_errors=True)
            return {**result, "peak_bytes": end.peak_bytes}
        if end.failure is not None:
            raise end.failure
        raise TrainingError(
            f"The run of {spec.name} ended early. {end.explain()}",
            where=str(folder / "log.txt"),
            hint="Call the command again: it goes on behind the last finished experience.",
        )

    def _time_left(self) -> str:
        from contlearn.wording import span

        runs = f"{self.left} run{'' if self.left == 1 else 's'}"
        if not self.times:
            return f" ({runs})"
        return f" ({runs}, about {span(self.left * statistics.mean(self.times))} left)"


def _runs_of(spec: Spec, seeds: Sequence[int]) -> int:
    return len(seeds) + (len(RATES) - 1 if spec.name == TUNED else 0)


def _judge(
    rows: Sequence[Mapping[str, Any]], specs: Sequence[Spec], folder: Path, steps: tuple[str, ...]
) -> BenchmarkResult:
    """Summarise over seeds, and recommend by development rows."""
    found = []
    for spec in specs:
        own = [row for row in rows if row["name"] == spec.name]
        values = [row["average_accuracy"] for row in own]
        curves = [row["curve"] for row in own if row["curve"]]
        means: dict[str, float | None] = {}
        for figure in FIGURES:
            known = [float(row[figure]) for row in own if row.get(figure) is not None]
            means[figure] = statistics.mean(known) if known else None
        found.append(
            Summary(
                name=spec.name,
                seeds=len(own),
                is_reference=spec.reads_history,
                means=means,
                spread=statistics.stdev(values) if len(values) > 1 else None,
                dev_accuracy=statistics.mean(row["dev_accuracy"] for row in own),
                curve=tuple(map(statistics.mean, zip(*curves, strict=True))) if curves else None,
            )
        )
    order = sorted(found, key=lambda s: (s.is_reference, -(s.means["average_accuracy"] or 0.0)))
    name, reason = _recommend(found)
    return BenchmarkResult(
        rows=tuple(rows),
        summaries=tuple(order),
        recommendation=name,
        reason=reason,
        folder=folder,
        steps=steps,
    )


def _recommend(found: Sequence[Summary]) -> tuple[str, str]:
    """Name the strategy to use, and why; the default unless another leads clearly."""
    usable = [s for s in found if not s.is_reference]
    references = [s for s in found if s.is_reference]
    if not usable:
        return "", "Only references were measured; none of them can learn from update to update."
    best = max(usable, key=lambda s: s.dev_accuracy)
    default = next((s for s in usable if s.name == "replay"), None)
    doubt = max(_CLEAR_LEAD, *((s.spread or 0.0) for s in (best, default) if s is not None))
    chosen = best
    reason = f"{best.name} has the best development rows ({percent(best.dev_accuracy)})"
    if default is not None and default is not best:
        lead = best.dev_accuracy - default.dev_accuracy
        if lead <= doubt:
            chosen = default
            reason = (
                f"no strategy leads the default by more than {percent(doubt)} on development "
                f"rows ({best.name} {percent(best.dev_accuracy)}, replay "
                f"{percent(default.dev_accuracy)})"
            )
        else:
            reason += f", {percent(lead)} before the default"
    reason += f"; on test rows {chosen.name} reaches {percent(chosen.means['average_accuracy'])}"
    if references:
        top = max(references, key=lambda s: s.means["average_accuracy"] or 0.0)
        gap = (top.means["average_accuracy"] or 0.0) - (chosen.means["average_accuracy"] or 0.0)
        reason += f", {percent(gap)} below learning everything at once ({top.name})"
    return chosen.name, reason + "."
