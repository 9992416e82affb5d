"""The public names of the package are there, and are documented."""

from __future__ import annotations

import pytest

import contlearn


def test_public_names_stay():
    assert sorted(contlearn.__all__) == [
        "Context",
        "ContlearnError",
        "UpdateCycle",
        "UpdateResult",
        "__version__",
        "describe_version",
        "evaluate_version",
        "ingest_files",
        "make_workspace",
        "predict_texts",
        "promote_version",
        "read_history",
        "read_status",
        "roll_back",
        "verify_versions",
    ]


@pytest.mark.parametrize("name", sorted(set(contlearn.__all__) - {"__version__"}))
def test_public_name_loads_and_says_what_it_does(name):
    assert getattr(contlearn, name).__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'uppdate'"):
        _ = contlearn.uppdate
