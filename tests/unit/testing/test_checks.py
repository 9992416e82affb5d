from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from contlearn.plugins.manager import KINDS, PluginManager
from contlearn.testing import check_class


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part:
    """What every class behind a hook has, and no method of any kind."""

    name = "part"
    summary = "a part of a test"
    reads_history = False
    Options = Strict

    def __init__(self, options):
        self.options = options


def said(kind, implementation):
    return " ".join(check_class(kind, implementation))


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_of_any_kind_without_its_methods_is_found(kind):
    assert "is missing" in said(kind, Part)
    for item in PluginManager(discover=False).table(kind).values():
        assert check_class(kind, item.implementation) == []


def test_a_strategy_says_whether_it_reads_history_and_is_made_with_its_options():
    class Silent(Part):
        reads_history = None

        def __init__(self):
            super().__init__(None)

        def learn(self, session):
            raise NotImplementedError

    assert "reads_history is neither True nor False" in said("strategy", Silent)
    assert "it is not made with (options)" in said("strategy", Silent)


def test_a_buffer_takes_its_bounds_and_asks_for_what_there_is():
    class Buffer(Part):
        priority = "luck"

        def add(self, exemplars): ...
        def remove(self, record_ids): ...
        def items(self): ...
        def state(self): ...
        def load_state(self, state): ...

    found = said("buffer", Buffer)
    assert "made with (*, capacity_records, capacity_bytes, records_per_label, seed)" in found
    assert "the priority 'luck' is none of herding, uncertainty, loss" in found
