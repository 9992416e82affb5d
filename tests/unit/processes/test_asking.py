"""One question to a child: its answer, the error it tells, and an end without either."""

from __future__ import annotations

import os
import sys

import pytest

from contlearn.errors import EvaluationError, UsageError
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits

CHILD = """
import os, sys
from contlearn.errors import UsageError
from contlearn.processes.asking import answer_parent

def work():
    if sys.argv[1] == "refuse":
        raise UsageError("It cannot be.", where="here", hint="Ask again.")
    if sys.argv[1] == "die":
        os._exit(7)
    return {"answer": 42} if sys.argv[1] == "answer" else {"other": 1}

sys.exit(answer_parent(work))
"""


@pytest.fixture
def ask(tmp_path):
    (tmp_path / "asked.py").write_text(CHILD)
    path = os.pathsep.join([str(tmp_path), *sys.path])

    def ask(word):
        return ask_child(
            "asked",
            [word],
            needed="answer",
            log=tmp_path / "log.txt",
            limits=ChildLimits(),
            environ={**os.environ, "PYTHONPATH": path},
        )

    return ask


def test_child_answers(ask):
    assert ask("answer") == {"answer": 42}


def test_error_that_a_child_tells_is_raised_here(ask):
    with pytest.raises(UsageError) as caught:
        ask("refuse")
    assert (caught.value.what, caught.value.where) == ("It cannot be.", "here")


@pytest.mark.parametrize(("word", "said"), [("die", "ended with code 7"), ("other", "code 0")])
def test_child_that_ends_without_an_answer_is_an_error(ask, word, said):
    with pytest.raises(EvaluationError, match=said):
        ask(word)
