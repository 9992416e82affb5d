"""What the child of an update loads: what it uses, and nothing that its libraries drag along."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import CLASSIFIER, Program
from tests.texts import classified

# What avalanche names for plots, trackers, image sets, metrics and quadratic programs, and
# transformers for assisted generation.
UNUSED = {
    "gdown",
    "jax",
    "jaxopt",
    "matplotlib",
    "pytorchcv",
    "qpsolvers",
    "sklearn",
    "tensorboard",
    "torchmetrics",
    "wandb",
}


@pytest.mark.slow
def test_a_plain_update_loads_nothing_that_it_does_not_use(tmp_path, tiny_model, monkeypatch):
    program = Program(tmp_path / "ws")
    program.run("init", program.root, "--base", str(tiny_model))
    program.configure(CLASSIFIER, tiny_model)
    program.drop("first.jsonl", classified(["billing", "garden"], 20))
    # The interpreter then writes each module it loads to standard error, which is the cycle's log.
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with program.popen("update") as update:
        _, said = update.communicate(timeout=280)
    assert update.returncode == 0, said
    (log,) = (program.root / "state" / "cycles").glob("*/log.txt")
    loaded = re.findall(r"^import time:.*\| +(\S+)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"torch", "avalanche.training.templates.base_sgd"} <= set(loaded)
    assert not {name.split(".")[0] for name in loaded} & UNUSED
