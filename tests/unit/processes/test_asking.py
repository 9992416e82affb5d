"""One question to a child: its answer, the error it tells, and an end without either."""

from __future__ import annotations

import os
import sys

import pytest

from contlearn.errors import ContlearnError, UsageError
from contlearn.processes.asking import ask_child
from contlearn.processes.children import ChildLimits

CHILD = """
import os, sys
from contlearn.errors import UsageError
from contlearn.processes.answering import answer_parent, tell_progress

def work():
    if sys.argv[1] == "refuse":
        raise UsageError("It cannot be.", where="here", hint="Ask again.")
    if sys.argv[1] == "die":
        os._exit(7)
    if sys.argv[1] == "fail":
        raise KeyError("lost")
    print('{"stage": 7}', flush=True)
    tell_progress("asking", 1, 2, "soon")
    return {"answer": 42} if sys.argv[1] == "answer" else {"other": 1}

sys.exit(answer_parent(work))
"""


@pytest.fixture
def ask(tmp_path):
    (tmp_path / "asked.py").write_text(CHILD)
    path = os.pathsep.join([str(tmp_path), *sys.path])

    def ask(word, **options):
        return ask_child(
            "asked",
            [word],
            what="Asking",
            needed="answer",
            log=tmp_path / "log.txt",
            limits=ChildLimits(),
            environ={**os.environ, "PYTHONPATH": path},
            **options,
        )

    return ask


def test_child_answers(ask):
    steps = []
    assert ask("answer", progress=lambda *step: steps.append(step))["answer"] == 42
    assert steps == [("asking", 1, 2, "soon")]


def test_error_that_a_child_tells_is_raised_here(ask):
    with pytest.raises(UsageError) as caught:
        ask("refuse")
    assert (caught.value.what, caught.value.where) == ("It cannot be.", "here")


def test_exception_that_nobody_foresaw_is_told_too(ask, tmp_path):
    with pytest.raises(ContlearnError) as caught:
        ask("fail")
    assert (caught.value.what, caught.value.where) == ("KeyError: 'lost'", f"{tmp_path}/log.txt")


@pytest.mark.parametrize(("word", "said"), [("die", "ended with code 7"), ("other", "code 0")])
def test_child_that_ends_without_an_answer_is_an_error(ask, word, said):
    with pytest.raises(ContlearnError, match=f"Asking failed. The child .* {said}") as caught:
        ask(word)
    assert type(caught.value) is ContlearnError
