"""What is said of words that a model does not read."""

from __future__ import annotations

import pytest
import torch

from contlearn.tasks.token_classification import TokenClassification
from contlearn.training.encoded import EncodedSet, unread_notes
from contlearn.types import Encoding
from tests.unit.training.conftest import record


@pytest.mark.parametrize(
    ("has_places", "said"), [(True, "3 words of 1 texts, 1 of them labelled, "), (False, "3 words of 1 texts ")]
)  # fmt: skip
def test_words_beyond_the_limit_are_counted_by_whether_they_have_labels(has_places, said):
    one = record({"tokens": ("fly", "to", "Rome", "now")}, ("O", "O", "B-city", "O"))
    cut = Encoding(
        input_ids=(1, 2, 3), word_starts=(1,), truncated=True, words=(0,), cut_words=(1, 2, 3)
    )
    data = EncodedSet(
        packed=torch.zeros((1, 3 if has_places else 2, 3), dtype=torch.long),
        lengths=torch.tensor([3]),
        flat=torch.tensor([0]),
        offsets=torch.tensor([0, 1]),
        owners=torch.tensor([0]),
        records=(one,),
        encodings=((cut,),),
    )
    assert unread_notes(data, TokenClassification(), max_tokens=3) == [
        f"{said}lie beyond the limit of 3 tokens (model.max_tokens)."
    ]
