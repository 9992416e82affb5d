"""Back-translation through models that a user names: tiny local ones with random weights."""

from __future__ import annotations

import pytest
import torch

from contlearn.config import AugmentationConfig
from contlearn.errors import ConfigError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.training.augment import Augmenter
from contlearn.training.encoded import encode_records
from contlearn.training.fit import fit_challenger
from contlearn.training.translation import back_translator
from contlearn.types import LabelSpace
from tests.unit.training.conftest import Lineage, texts

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)


def write_translator(folder, tokenizer_of, *, seed):
    """A BART of one layer with the tokenizer of the tiny BERT."""
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    torch.manual_seed(seed)
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_position_embeddings=300, init_std=1.0, max_length=None,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id, decoder_start_token_id=tokenizer.cls_token_id,
            forced_eos_token_id=None,
        )
    )  # fmt: skip
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def translators(tmp_path_factory, tiny_model):
    root = tmp_path_factory.mktemp("translators")
    return [
        write_translator(root / name, tiny_model, seed=seed)
        for seed, name in enumerate(("there", "back"))
    ]


def test_texts_go_there_and_then_back(translators):
    wanted = ["water the garden", "play some music", "pay the bill"]
    both = back_translator(translators)(wanted)
    there = back_translator(translators[:1])(wanted)
    assert both == back_translator(translators[1:])(there)
    assert both != there
    assert len(both) == 3
    assert all(text.strip() for text in both)
    assert both == back_translator(translators)(wanted)


def test_a_text_that_comes_back_empty_stays_as_it_was(translators, monkeypatch):
    translate = back_translator(translators)
    from transformers import BartForConditionalGeneration

    def nothing(self, input_ids, **_):
        return torch.full((len(input_ids), 1), self.config.pad_token_id)

    monkeypatch.setattr(BartForConditionalGeneration, "generate", nothing)
    assert translate(["pay the bill"]) == ["pay the bill"]


def test_a_share_of_new_texts_is_what_came_back_and_each_is_translated_once(
    translators, tiny_model, tmp_path, monkeypatch
):
    lineage = Lineage(tmp_path, tiny_model)
    records = texts(["billing", "garden"], 10)
    space = lineage.task.outputs(LabelSpace(), [r.target for r in records])
    checkpoint = new_checkpoint(str(tiny_model), head=HeadSpec(name="logits", outputs=space))
    data = encode_records(records, checkpoint, task=lineage.task, space=space, max_tokens=32)
    augment = Augmenter(
        AugmentationConfig(operations=("back-translation",), models=tuple(translators), share=1.0),
        data, new=15, task=lineage.task, checkpoint=checkpoint, max_tokens=32, seed=1,
    )  # fmt: skip
    asked = []
    translate = augment._translate
    augment._translate = lambda some: asked.extend(some) or translate(some)
    changed = augment(0)

    def text_of(found, i):
        inputs, _ = found.batch([i])
        ids = inputs[0, 0, : int(inputs[0, 1].sum())].tolist()
        return checkpoint.tokenizer.decode(ids, skip_special_tokens=True)

    originals = [r.inputs["text"] for r in records]
    expected = back_translator(translators)(originals[:15])
    for i in range(15):
        wanted = checkpoint.tokenizer(expected[i], truncation=True, max_length=32)["input_ids"]
        assert text_of(changed, i) == checkpoint.tokenizer.decode(wanted, skip_special_tokens=True)
    assert [text_of(changed, i) for i in range(15, 20)] == [
        text_of(data, i) for i in range(15, 20)
    ]  # exemplars stay
    augment(1)
    assert sorted(asked) == sorted(set(originals[:15]))


def test_an_update_learns_from_translated_texts(translators, tiny_model, tmp_path):
    lineage = Lineage(tmp_path, tiny_model, epochs=1, strategy="naive")
    records = texts(["billing", "garden"], 10)
    augmentation = {"operations": ["back-translation"], "models": translators, "share": 1.0}
    weights = []
    for name, changes in (("plain", {}), ("translated", {"augmentation": augmentation})):
        request = lineage.request(records, name=name, **changes)
        request.output.mkdir(parents=True)
        result = fit_challenger(request)
        from contlearn.modeling.checkpoint import load_checkpoint

        weights.append(load_checkpoint(result.checkpoint).model.head.weight)
    assert not torch.equal(*weights)


def test_a_model_that_is_none_is_a_configuration_error(tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        back_translator([str(tmp_path / "missing")])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        back_translator([str(tiny_model)])  # an encoder alone
