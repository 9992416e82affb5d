from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contlearn.errors import RegistryError, TrainingError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.additions import DAMAGED, Prefixed, Prompted
from contlearn.modeling.base_check import _COUNT_FROM_0, _COUNT_FROM_PADDING, read_limit
from contlearn.modeling.checkpoint import (
    load_checkpoint,
    new_checkpoint,
    position_limit,
    save_checkpoint,
)
from contlearn.modeling.head import LabelHead
from contlearn.modeling.packing import pack
from contlearn.modeling.text_model import pool
from contlearn.types import Encoding, LabelSpace

ENCODINGS = [
    Encoding(input_ids=(2, 10, 11, 12, 3), word_starts=(1, 3)),
    Encoding(input_ids=(2, 20, 3), word_starts=(1,)),
]


@pytest.fixture
def checkpoint(tiny_model):
    return new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
    )


@pytest.fixture
def words(tiny_model):
    return new_checkpoint(
        str(tiny_model),
        head=HeadSpec(name="logits", outputs=LabelSpace(("O", "B-x", "I-x")), view="words"),
    )


def test_head_keeps_old_rows_bit_equal_when_it_grows():
    head = LabelHead(8, LabelSpace(("a", "b")))
    head.set_rows(torch.randn(2, 8), torch.randn(2))
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    assert head.grow(LabelSpace(("a", "b", "c", "d")))
    assert torch.equal(head.weight[:2], weight)
    assert torch.equal(head.bias[:2], bias)
    assert head.weight.shape == (4, 8)


def test_head_begins_a_label_the_same_whenever_it_comes():
    early, late = LabelHead(8, LabelSpace(("x", "y"))), LabelHead(8, LabelSpace(("y",)))
    late.grow(LabelSpace(("y", "x")))
    assert torch.equal(early.weight[0], late.weight[1])


def test_head_does_not_grow_without_new_labels():
    head = LabelHead(8, LabelSpace(("a",)))
    before = head.weight
    assert not head.grow(LabelSpace(("a",)))
    assert head.weight is before


def test_head_refuses_labels_in_another_order():
    with pytest.raises(ValueError, match="only appended to"):
        LabelHead(8, LabelSpace(("a", "b"))).grow(LabelSpace(("b", "a")))


def test_pack_marks_pieces_and_words():
    packed = pack(ENCODINGS, pad_id=9, places=True)
    assert packed[1].tolist() == [[2, 20, 3, 9, 9], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]]


def test_model_gives_one_row_a_text(checkpoint):
    assert checkpoint.model(pack(ENCODINGS, pad_id=0)).shape == (2, 2)


def test_model_gives_one_row_a_word_in_order(words):
    model = words.model.eval()
    together = model(pack(ENCODINGS, pad_id=0, places=True))
    apart = [model(pack([encoding], pad_id=0, places=True)) for encoding in ENCODINGS]
    assert together.shape == (3, 3)
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_model_answers_the_same_however_far_it_is_padded(checkpoint):
    model = checkpoint.model.eval()
    packed = pack(ENCODINGS, pad_id=0)
    wide = torch.nn.functional.pad(packed, (0, 30))
    assert torch.equal(model(packed), model(wide))


def test_pool_means_over_pieces_only_and_first_takes_the_first():
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(states, mask, "mean").tolist() == [[2.0]]
    assert pool(states, mask, "first").tolist() == [[1.0]]


@pytest.mark.parametrize("kind", ["checkpoint", "words"])
def test_checkpoint_is_the_same_after_save_and_load(kind, request, tmp_path):
    before = request.getfixturevalue(kind)
    before.model.head.set_rows(
        torch.randn_like(before.model.head.weight), torch.randn_like(before.model.head.bias)
    )
    save_checkpoint(before, tmp_path / "c")
    after = load_checkpoint(tmp_path / "c")
    packed = pack(ENCODINGS, pad_id=0, places=before.model.has_places)
    assert torch.equal(before.model.eval()(packed), after.model.eval()(packed))
    assert after.model.labels == before.model.labels
    assert after.base == before.base
    text = "invoice refund today"
    encode = [c.tokenizer.backend_tokenizer.encode(text).ids for c in (before, after)]
    assert encode[0] == encode[1]


def test_checkpoint_holds_no_pickle(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "c")
    endings = {path.suffix for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert endings <= {".json", ".safetensors", ".txt", ".model"}


def test_load_checkpoint_refuses_another_format(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(RegistryError, match="format version 7, not 1"):
        load_checkpoint(tmp_path / "c")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(*names):
    """Take keys out of a JSON or a safetensors file."""

    def change(path):
        if path.suffix == ".json":
            facts = json.loads(path.read_bytes())
            path.write_text(json.dumps({k: v for k, v in facts.items() if k not in names}))
            return
        tensors = {k: v for k, v in load_file(path).items() if not k.endswith(names)}
        save_file(tensors, path, metadata={"format": "pt"})

    return change


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("checkpoint.json", cut, "is damaged"),
        ("checkpoint.json", Path.unlink, "is missing"),
        ("checkpoint.json", without("labels"), "'labels' is missing"),
        ("checkpoint.json", without("view"), "'per' is missing"),
        ("head.safetensors", cut, "cannot be read"),
        ("head.safetensors", without("bias"), "'bias' is missing"),
        ("encoder/model.safetensors", cut, "The encoder could not be loaded"),
        ("encoder/model.safetensors", Path.unlink, "The encoder could not be loaded"),
        ("encoder/model.safetensors", without("output.dense.weight"), "would be drawn at random"),
        ("encoder/config.json", cut, "The encoder could not be loaded"),
        ("tokenizer/tokenizer.json", cut, "The tokenizer could not be loaded"),
    ],
)
def test_load_checkpoint_says_what_is_damaged_and_what_to_do(
    checkpoint, tmp_path, name, damage, said
):
    save_checkpoint(checkpoint, tmp_path / "c")
    damage(tmp_path / "c" / name)
    with pytest.raises(RegistryError) as caught:
        load_checkpoint(tmp_path / "c")
    assert said in caught.value.what
    assert str(tmp_path / "c" / name).startswith(caught.value.where)
    assert "model.base" not in str(caught.value)
    assert caught.value.hint == DAMAGED


def test_load_checkpoint_says_that_an_addition_is_damaged(checkpoint, tmp_path):
    checkpoint.model.encoder = Prompted(checkpoint.model.encoder, torch.zeros(2, 32))
    save_checkpoint(checkpoint, tmp_path / "c")
    cut(tmp_path / "c" / "addition.json")
    with pytest.raises(RegistryError, match="added to the encoder cannot be read") as caught:
        load_checkpoint(tmp_path / "c")
    assert caught.value.hint == DAMAGED


def test_load_checkpoint_refuses_a_head_of_another_size(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(path.read_text().replace('"b"', '"b", "c"'))
    with pytest.raises(RegistryError, match="for 3 labels"):
        load_checkpoint(tmp_path / "c")


def test_new_checkpoint_refuses_a_head_that_nothing_trains(tiny_model):
    head = HeadSpec(name="score", outputs=LabelSpace(), view="markers", loss="positions")
    with pytest.raises(TrainingError) as caught:
        new_checkpoint(str(tiny_model), head=head)
    assert caught.value.what == (
        "The name of the head is 'score'; it can be logits. "
        "The view of the head is 'markers'; it can be pooled, words, pieces. "
        "The loss of the head is 'positions'; it can be softmax, sigmoid, squared, ordinal."
    )


def tiny_encoder(kind, positions):
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        kind,
        vocab_size=30,
        hidden_size=8,
        embedding_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=positions,
        pad_token_id=1,
    )
    return AutoModel.from_config(config).eval()


def reads(encoder, pieces):
    """Whether an encoder can read a text of so many pieces."""
    ids = torch.full((1, pieces), 5)
    try:
        encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("around", [None, "prompt", "prefix"])
@pytest.mark.parametrize(("kind", "positions"), [("bert", 32), ("roberta", 34), ("roformer", 32)])
def test_position_limit_is_what_the_encoder_can_read(kind, positions, around):
    encoder = tiny_encoder(kind, positions)
    if around == "prompt":
        encoder = Prompted(encoder, torch.zeros(4, 8))
    elif around == "prefix":
        encoder = Prefixed(encoder, torch.zeros(4, 16))
    limit = position_limit(encoder)
    assert limit == (32 if around is None else 28)
    assert reads(encoder, limit)
    assert not reads(encoder, limit + 1)


# torch says so when transformers' module of DeBERTa is imported.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2"])
def test_an_encoder_without_a_table_of_places_has_no_limit(kind):
    from transformers import AutoConfig, AutoModel

    more = {"relative_attention": True, "position_biased_input": False}
    config = AutoConfig.for_model(
        kind, vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=32, pad_token_id=1, **more,
    )  # fmt: skip
    encoder = AutoModel.from_config(config).eval()
    assert position_limit(encoder) is None
    assert reads(encoder, 80)


@pytest.mark.parametrize("kind", [*_COUNT_FROM_0, *_COUNT_FROM_PADDING])
def test_the_look_before_loading_says_the_same_as_the_encoder(kind, tmp_path):
    encoder = tiny_encoder(kind, 34)
    encoder.config.save_pretrained(tmp_path)
    assert read_limit(tmp_path) == position_limit(encoder) in {32, 34}


@pytest.mark.parametrize(("per", "view"), [("sequence", "pooled"), ("word", "words")])
def test_checkpoint_of_an_earlier_contlearn_is_read_as_it_was_meant(
    tiny_model, tmp_path, per, view
):
    head = HeadSpec(name="logits", outputs=LabelSpace(("O", "B-x", "I-x")), view=view)
    save_checkpoint(new_checkpoint(str(tiny_model), head=head), tmp_path)
    path = tmp_path / "checkpoint.json"
    facts = json.loads(path.read_bytes())
    assert (facts.pop("view"), facts.pop("loss")) == (view, "softmax")
    path.write_text(json.dumps({**facts, "per": per}))
    model = load_checkpoint(tmp_path).model
    assert (model.view, model.loss, model.has_places) == (view, "softmax", per == "word")
