from __future__ import annotations

import pytest

from tests.unit.data.taking import taker


@pytest.fixture
def taking(tmp_path):
    """A workspace that takes files in, near-duplicates off, labels open."""
    with taker(tmp_path / "ws") as made:
        yield made
