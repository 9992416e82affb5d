from __future__ import annotations

from pathlib import Path

import pytest

from contlearn.errors import ServingError
from contlearn.places import without_places


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/srv/a b/ws/model.onnx cannot be read", "model.onnx cannot be read"),
        ("[Errno 13] Permission denied: '/home/ada/x/y.json'", "[Errno 13] Permission denied: 'y.json'"),
        ("see https://example.com/a/b and docs/a/b.md", "see https://example.com/a/b and docs/a/b.md"),
        ("between 1/2 and 3/4", "between 1/2 and 3/4"),
        ("(~/ws/serving/tickets)", "(tickets)"),
        ("/var/lib/ is full", "lib is full"),
    ],
)  # fmt: skip
def test_of_a_path_its_last_name_is_left(text, left):
    told = without_places(ServingError(f"It failed: {text}."), [Path("/srv/a b/ws/serving")])
    assert told.what == f"It failed: {left}."


def test_a_place_that_is_all_of_a_part_is_left_by_its_name_and_the_kind_stays():
    error = ServingError("It failed.", where="/some where/x/model.onnx", hint="Look at /a/b.")
    told = without_places(error)
    assert (type(told), told.where, told.hint) == (ServingError, "model.onnx", "Look at b.")
    assert error.where == "/some where/x/model.onnx"
