"""What docstrings, comments and messages name in backticks is there: a room's module, or a key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contlearn.config.keys import all_keys, parts

ROOT = Path(__file__).parents[2] / "contlearn"
_NAME = re.compile(r"`((?:contlearn\.)?[a-z_]+(?:\.\w+)+)`")
_KEYS = {key.path for key in all_keys()} | {part.name for part in parts()}
# Files that are called as a room is.
_ENDINGS = (".pbtxt",)


def named_wrongly(text: str) -> list[str]:
    """Give the names that begin with a room of contlearn and stand for nothing.

    A name of a room that is gone, without `contlearn.` before it, cannot be told from any other.
    """
    return [name for name in _NAME.findall(text) if not _is_there(name)]


def _is_there(name: str) -> bool:
    own = name.removeprefix("contlearn.")
    first, *_ = way = own.split(".")
    is_ours = own != name or (ROOT / first).is_dir() or (ROOT / f"{first}.py").is_file()
    if not is_ours or name in _KEYS or name.endswith(_ENDINGS):
        return True
    place = ROOT
    while way and (place / way[0]).is_dir():
        place /= way.pop(0)
    if way and (place / f"{way[0]}.py").is_file():
        place /= f"{way.pop(0)}.py"
    else:
        place /= "__init__.py"
    if place == ROOT / "__init__.py":
        return False
    text = place.read_text(encoding="utf-8")
    return all(re.search(rf"\b{part}\b", text) for part in way)


def test_names_in_words_are_there():
    wrong = {
        str(path.relative_to(ROOT.parent)): found
        for path in sorted(ROOT.rglob("*.py"))
        if (found := named_wrongly(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("see `catalog.parts`, `contlearn.daemon` and `wording.Measures.of`", []),
        ("`data.labels` and `[training] epochs`, `sys.modules`, `config.pbtxt`", []),
        ("see `data.tools`", ["data.tools"]),
        ("see `contlearn.pipeline.doubting`", ["contlearn.pipeline.doubting"]),
        ("see `contlearn.wording.Measures.off`", ["contlearn.wording.Measures.off"]),
    ],
)
def test_a_name_that_stands_for_nothing_is_found(text, wrong):
    assert named_wrongly(text) == wrong
