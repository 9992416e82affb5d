"""A tiny BERT with random weights: trains in seconds, needs no download."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from contlearn.arguments import require_several

__all__ = ["write_tiny_model"]

# Words lie far apart and the layers change them little, so that a linear head on frozen features
# tells texts of different words apart: what a test of a whole update sees does not hang on chance.
_RANGE: Final = 0.05
_WORD_RANGE: Final = 1.0


def write_tiny_model(
    folder: Path,
    *,
    words: Iterable[str] = (),
    hidden_size: int = 32,
    layers: int = 2,
    heads: int = 2,
    max_tokens: int = 64,
    seed: int = 0,
) -> Path:
    """Write a BertModel and its WordPiece tokenizer as a folder that `model.base` can name.

    Args:
        folder: Made if it is not there.
        words: Words that are one piece each; others are spelt.
        hidden_size: Width of the encoder.
        layers: Number of its layers.
        heads: Number of attention heads.
        max_tokens: Positions it has.
        seed: Of its weights.
    Returns:
        The folder.
    """
    require_several(words, what="word", where="write_tiny_model")
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += ["##" + letter for letter in string.ascii_lowercase + string.digits]
    pieces += sorted({word.lower() for word in words} - set(pieces))
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")  # noqa: S106  # not a password
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = BertModel(
            BertConfig(
                vocab_size=len(pieces),
                hidden_size=hidden_size,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=2 * hidden_size,
                max_position_embeddings=max_tokens,
                initializer_range=_RANGE,
            ),
            add_pooling_layer=False,
        )
        with torch.no_grad():
            model.embeddings.word_embeddings.weight.mul_(_WORD_RANGE / _RANGE)
    finally:
        torch.random.set_rng_state(state)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "BertTokenizerFast",
                "do_lower_case": True,
                "model_max_length": max_tokens,
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
                "mask_token": "[MASK]",
            }
        ),
        encoding="utf-8",
    )
    return folder
