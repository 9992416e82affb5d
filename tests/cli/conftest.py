from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from contlearn.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    """Run the program in this process and give its exit code and both outputs."""

    def call(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(int(caught.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def in_workspace(run, workspace):
    def call(*arguments: str) -> Ran:
        return run("--workspace", workspace.root, *arguments)

    return call


__all__: Sequence[str] = ()
