from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from contlearn.cli import main
from tests import warm
from tests.texts import classified, write_rows

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
worth_confidence = 0.5  # as good as the champion is good enough here
"""

# What only looks is asked in this process: a start of the program costs more than its answer.
LOOKS = frozenset({"diff", "evaluate", "history", "predict", "show", "status", "verify"})


@dataclass
class Program:
    """The real program on one workspace; what changes something has a process of its own.

    That process is a fork of a warm one (`tests.warm`), but for `popen`, which starts the program.
    """

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

    def look(self, *arguments):
        """Run a command in this process; give its exit code and both outputs."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        returned = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["--workspace", str(self.root), *map(str, arguments)])
            except SystemExit as end:
                returned = int(end.code or 0)
        written = []
        for stream in (out, err):
            stream.flush()
            written.append(stream.buffer.getvalue().decode())
        return returned, *written

    def run(self, *arguments, code=0):
        if arguments[0] in LOOKS:
            returned, out, err = self.look(*arguments)
            assert returned == code, f"exit {returned}\n{out}\n{err}"
            return out
        whole = ("--workspace", self.root, *arguments)
        returned, out, err = warm.run(whole, environ={"OMP_NUM_THREADS": "1"})
        assert code in (None, returned), f"exit {returned}\n{out}\n{err}"
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


@pytest.fixture(scope="session")
def made_workspace(tmp_path_factory, tiny_model) -> Path:
    """A new workspace of the program's, to be copied."""
    made = Program(tmp_path_factory.mktemp("made") / "ws")
    made.run("init", made.root, "--base", str(tiny_model))
    made.configure(CLASSIFIER, tiny_model)
    return made.root


@pytest.fixture(scope="session")
def promoted_workspace(tmp_path_factory, made_workspace) -> Path:
    """A workspace that learnt billing and shipping, then garden: two promotions, to be copied."""
    made = Program(tmp_path_factory.mktemp("promoted") / "ws")
    shutil.copytree(made_workspace, made.root)
    for number, labels in enumerate((["billing", "shipping"], ["garden"])):
        made.drop(f"{number}.jsonl", classified(labels, 40, seed=number))
        assert made.json("update")["outcome"] == "promoted"
    return made.root


@pytest.fixture
def program(tmp_path, made_workspace) -> Program:
    shutil.copytree(made_workspace, tmp_path / "ws")
    return Program(tmp_path / "ws")


@pytest.fixture
def promoted(tmp_path, promoted_workspace) -> Program:
    """The program on a workspace with version 2 as champion and version 1 as the former one."""
    shutil.copytree(promoted_workspace, tmp_path / "ws", symlinks=True)
    return Program(tmp_path / "ws")
