"""Whole loops with encoders of other families than BERT; the rest is in the benchmark."""

from __future__ import annotations

import pytest

from tests.encoders import FAMILIES, LEARNT, TASKS, walk

pytestmark = pytest.mark.slow

SIX = ("deberta", "deberta-v2", "electra", "modernbert", "mpnet", "xlm-roberta")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SIX)
def test_a_family_goes_from_init_to_the_server(tmp_path, name, task):
    (family,) = (family for family in FAMILIES if family.name == name)
    found = walk(family, task, tmp_path)
    assert found.is_whole, found
    assert found.relative_difference <= 1e-3
    assert found.label_agreement >= 0.99
    assert found.right >= LEARNT
