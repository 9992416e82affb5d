from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.texts import write_rows

CLASSIFIER = """
[model]
name = "tickets"
task = "text-classification"
base = "{base}"
max_tokens = 32

[data]
held_out_ratio = 0.25
rest_seconds = 0.0
near_duplicates = false

[training]
epochs = 2
batch_size = 8
learning_rate = 1e-3
checkpoint_steps = 5

[gate]
margin = 0.2
"""


@dataclass
class Program:
    """The real program, in a process of its own, on one workspace."""

    root: Path

    def popen(self, *arguments, **options):
        command = [
            sys.executable,
            "-m",
            "contlearn",
            "--workspace",
            str(self.root),
            *map(str, arguments),
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environ, **{**pipes, **options})

    def run(self, *arguments, code=0):
        with self.popen(*arguments) as process:
            out, err = process.communicate(timeout=280)
        assert code in (None, process.returncode), f"exit {process.returncode}\n{out}\n{err}"
        return out

    def json(self, *arguments, code=0):
        return json.loads(self.run(*arguments, "--json", code=code))

    def check(self, folder):
        """Load a folder in a child as the registry does before a promotion."""
        command = [sys.executable, "-m", "contlearn.inference", "check", str(folder)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    def drop(self, name, rows):
        return write_rows(self.root / "inbox" / name, rows)

    def configure(self, text, base):
        (self.root / "contlearn.toml").write_text(text.format(base=base), encoding="utf-8")


@pytest.fixture
def program(tmp_path, tiny_model) -> Program:
    made = Program(tmp_path / "ws")
    made.run("init", made.root, "--base", str(tiny_model))
    made.configure(CLASSIFIER, tiny_model)
    return made
