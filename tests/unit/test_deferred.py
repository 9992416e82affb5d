from __future__ import annotations

import gc
import importlib
import sys

import pytest

from contlearn.deferred import DeferringFinder, deferring, uncollected

READER = """
import far.drawing as drawing
from far.shapes import Circle, area

def is_circle(value):
    return isinstance(value, Circle)

def helper():
    import far.shapes
    return far.shapes
"""
NAMED = {"reader": {"far.drawing": (), "far.shapes": ("Circle", "area")}}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A module that names a library, imported without it; both are forgotten afterwards."""
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "far").mkdir()
    (tmp_path / "far/__init__.py").write_text("")
    (tmp_path / "far/drawing.py").write_text("import warnings; warnings.warn('old')\nINK = 'blue'")
    (tmp_path / "far/shapes.py").write_text(
        "class Circle:\n    def __init__(self, radius): self.radius = radius\n"
        "def area(circle): return 3 * circle.radius ** 2"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: importlib.import_module("reader")
    for name in [n for n in sys.modules if n.split(".")[0] in ("far", "reader")]:
        del sys.modules[name]


def loaded():
    return sorted(name for name in sys.modules if name.split(".")[0] == "far")


def test_what_is_only_named_is_not_loaded_before_it_is_used(reader):
    with deferring(DeferringFinder(NAMED)):
        module = reader()
    assert loaded() == []
    assert not module.is_circle(1)
    assert loaded() == []
    assert module.drawing.INK == "blue"
    assert loaded() == ["far", "far.drawing"]


def test_a_stand_in_makes_and_knows_the_real_thing(reader):
    with deferring(DeferringFinder(NAMED)):
        module = reader()
    circle = module.Circle(2)
    assert type(circle) is sys.modules["far.shapes"].Circle
    assert module.is_circle(circle)
    assert not module.is_circle(1)
    assert module.area(circle) == 12


def test_everybody_else_gets_the_library(reader):
    with deferring(DeferringFinder(NAMED)):
        module = reader()
    assert module.helper() is importlib.import_module("far.shapes")


def test_a_library_that_is_loaded_is_not_replaced(reader):
    shapes = importlib.import_module("far.shapes")
    with deferring(DeferringFinder(NAMED)):
        module = reader()
    assert module.Circle is shapes.Circle
    assert loaded() == ["far", "far.shapes"]


def test_without_the_finder_a_module_is_as_ever(reader):
    with deferring(DeferringFinder({})):
        module = reader()
    assert module.Circle is importlib.import_module("far.shapes").Circle


@pytest.mark.transformers4  # version 5 imports it where it is called
def test_curve_that_transformers_names_works_when_it_is_called():
    from transformers.generation import candidate_generator

    from contlearn.modeling import auto_classes

    assert auto_classes.AutoModel.__name__ == "AutoModel"
    _, rates, _ = candidate_generator.roc_curve([0, 1], [0.1, 0.9])
    assert rates.tolist() == [0.0, 1.0, 1.0]


def test_what_transformers_names_works_when_it_is_called():
    from transformers.loss import loss_for_object_detection

    from contlearn.modeling import auto_classes

    assert auto_classes.AutoModel.__name__ == "AutoModel"
    rows, columns = loss_for_object_detection.linear_sum_assignment([[2, 1], [1, 2]])
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


def test_imports_are_not_collected_and_the_collector_stays_as_it_was():
    was_on = gc.isenabled()
    try:
        for on in (True, False):
            (gc.enable if on else gc.disable)()
            with uncollected():
                assert not gc.isenabled()
            assert gc.isenabled() == on
    finally:
        (gc.enable if was_on else gc.disable)()
