"""Nobody asks which task it is: a new task is one module, and nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path

import contlearn

ROOT = Path(contlearn.__file__).parent
# Where a task, and the graph that is made for it, are at home.
ROOMS = ("tasks/", "modeling/", "export/")
# Names of built-in tasks that are no question: defaults, help, and what files of before say.
NAMED = {
    "__init__.py": "an example",
    "benchmark/streams.py": "a default of the library",
    "config/model.py": "the default",
    "demo/story.py": "what the story is about",
    "papers/manifest.py": "how manifests of before named the pipeline",
    "evaluation/model_card.py": "which class of optimum loads a pipeline",
}
_NAME = re.compile(r"""["'](?:text|token|sequence)-classification["']""")
_QUESTION = re.compile(
    r"task\.name\s*[!=]=|\.graph\s*[!=]=|head\w*\.(?:view|loss)\s*[!=]=|isinstance\([^)]*(?:Text|Token)Classification"
)


def _lines():
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(ROOMS):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield place, number, line


def test_no_module_names_a_task_to_tell_it_from_others():
    found = [
        f"{place}:{number}: {line.strip()}"
        for place, number, line in _lines()
        if _NAME.search(line) and place not in NAMED
    ]
    assert found == []


def test_no_module_asks_which_task_or_head_it_is():
    found = [
        f"{place}:{number}: {line.strip()}"
        for place, number, line in _lines()
        if _QUESTION.search(line) and not place.startswith("testing/")
    ]
    assert found == []


def test_the_exceptions_are_still_needed():
    there = {place for place, _, line in _lines() if _NAME.search(line)}
    assert there >= NAMED.keys()
