from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
import torch

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.plugins.manager import PluginManager
from contlearn.training.fit import FitRequest, fit_challenger
from contlearn.types import Experience, LabelledRecord
from tests.texts import classified, tagged


def record(inputs, target, split="train", group=None):
    name = hashlib.sha256(json.dumps([inputs, target]).encode()).hexdigest()
    return LabelledRecord(
        record_id=name,
        inputs=inputs,
        target=target,
        split=split,
        group=group,
        source="test",
        received_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def texts(labels, per_label, seed=0):
    rows = classified(labels, per_label, seed=seed)
    return [record({"text": row["text"]}, row["label"]) for row in rows]


def sentences(types, count, seed=0):
    return [
        record({"tokens": tuple(row["tokens"])}, tuple(row["tags"]))
        for row in tagged(types, count, seed=seed)
    ]


class Lineage:
    """A line of versions that learns one experience after the other."""

    def __init__(self, root, base, task="text-classification", **training):
        self.root, self.base = root, base
        self.manager = PluginManager(discover=False)
        self.task = self.manager.task(task, where="test")
        self.training = {"epochs": 4, "batch_size": 8, "learning_rate": 3e-3, **training}
        self.replay = ReplayConfig(records_per_label=10)
        self.known = {}
        self.space = self.task.space_from_labels(())
        self.champion = None
        self.index = 0
        self.unlabelled = None

    def request(self, records, *, name=None, champion="latest", **changes):
        space = self.task.outputs(self.space, [r.target for r in records])
        self.known.update({r.record_id: r for r in records})
        name = name or f"v{self.index + 1}"
        return FitRequest(
            task=self.task,
            manager=self.manager,
            model=ModelConfig(task=self.task.name, base=str(self.base), max_tokens=32),
            training=TrainingConfig.model_validate({**self.training, **changes}),
            replay=self.replay,
            champion=self.champion if champion == "latest" else champion,
            experience=Experience(
                index=self.index,
                records=tuple(records),
                label_space=space,
                content_hash=Experience.hash_of(r.record_id for r in records),
            ),
            read_records=lambda ids: [self.known[i] for i in ids if i in self.known],
            work=self.root / f"work-{name}",
            output=self.root / name,
            unlabelled=self.unlabelled,
        )

    def learn(self, records, **changes):
        request = self.request(records, **changes)
        request.output.mkdir(parents=True)
        result = fit_challenger(request)
        self.space, self.champion = result.label_space, request.output
        self.index += 1
        return result


@pytest.fixture
def lineage(tmp_path, tiny_model):
    return Lineage(tmp_path, tiny_model)


@pytest.fixture
def tagger(tmp_path, tiny_model):
    return Lineage(tmp_path, tiny_model, "token-classification", learning_rate=1e-3)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny matrices gain nothing from threads, and lose much where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
