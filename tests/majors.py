"""Checkpoints of several kinds, written under one major of transformers and scored under another.

`python -m tests.majors write FOLDER` and `python -m tests.majors score PARENT`, each in the
environment that is meant; the second prints what every checkpoint in the folders of PARENT makes
of some texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.texts import WORDS

TEXTS = ["The refund, naïve café!", "ﬁne ＡＢＣ é rose", "a <user> two  spaces", "parcel " * 12]


def tokenizers_to_write(folder: Path) -> dict[str, object]:
    """Give tokenizers whose file says more than their class."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    def train(model, trainer, normalizer, splitter, first, last):
        made = Tokenizer(model)
        made.normalizer, made.pre_tokenizer = normalizer, splitter
        made.train_from_iterator([*TEXTS, " ".join(WORDS)] * 3, trainer)
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            special_tokens=[(token, made.token_to_id(token)) for token in (first, last)],
        )
        return made

    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    roberta = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    pieces = trainers.WordPieceTrainer(vocab_size=190, special_tokens=bert, show_progress=False)
    pairs = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=roberta,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    custom = train(
        models.WordPiece(unk_token="[UNK]"),
        pieces,
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        pre_tokenizers.Whitespace(),
        "[CLS]",
        "[SEP]",
    )
    bytes_ = train(
        models.BPE(),
        pairs,
        normalizers.NFC(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        "<s>",
        "</s>",
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    made = {
        "BertTokenizer": (custom, dict(zip(names, bert, strict=True))),
        "PreTrainedTokenizerFast": (
            custom,
            {**dict(zip(names, bert, strict=True)), "additional_special_tokens": ["<user>"]},
        ),
        "RobertaTokenizer": (
            bytes_,
            {
                **dict(zip(names, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"), strict=True)),
                "bos_token": "<s>",
                "eos_token": "</s>",
            },
        ),
    }
    for name, (backend, config) in made.items():
        place = folder / name
        place.mkdir(parents=True)
        backend.save(str(place / "tokenizer.json"))
        facts = {"tokenizer_class": name, **config}
        (place / "tokenizer_config.json").write_text(json.dumps(facts))
    return made


def write(folder: Path) -> None:
    """Write checkpoints of several encoders and tokenizers, for texts and for words."""
    import shutil

    import torch
    from transformers import AutoConfig, AutoModel

    from contlearn.interfaces import HeadSpec
    from contlearn.modeling.checkpoint import new_checkpoint, save_checkpoint
    from contlearn.types import LabelSpace

    tokenizers_to_write(folder / "tokenizers")
    sizes = {
        "vocab_size": 420, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": 70, "pad_token_id": 0,
    }  # fmt: skip
    modern = {
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
        "global_rope_theta": 5000.0,
        "local_rope_theta": 300.0,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
    }
    kinds = {
        "bert": ("bert", "BertTokenizer", {}),
        "modernbert": ("modernbert", "PreTrainedTokenizerFast", modern),
        "roberta": ("roberta", "RobertaTokenizer", {}),
    }
    for name, (kind, tokenizer, more) in kinds.items():
        torch.manual_seed(0)
        base = folder / "bases" / name
        AutoModel.from_config(AutoConfig.for_model(kind, **sizes, **more)).save_pretrained(base)
        shutil.copytree(folder / "tokenizers" / tokenizer, base, dirs_exist_ok=True)
        for view in ("pooled", "words"):
            head = HeadSpec(name="logits", outputs=LabelSpace(("a", "b", "c")), view=view)
            made = new_checkpoint(str(base), head=head)
            save_checkpoint(made, folder / "checkpoints" / f"{name}-{view}")


def score(folder: Path) -> dict[str, list[object]]:
    """Say what every checkpoint makes of the texts: ids, and the encoder's states of them."""
    import torch

    from contlearn.modeling.checkpoint import load_checkpoint

    said: dict[str, list[object]] = {}
    for place in sorted(folder.glob("*/checkpoints/*")):
        checkpoint = load_checkpoint(place)
        checkpoint.model.eval()
        backend = checkpoint.tokenizer.backend_tokenizer
        said[str(place.relative_to(folder))] = rows = []
        for text in TEXTS:
            for ids in (
                backend.encode(text).ids,
                backend.encode(text.split(), is_pretokenized=True).ids,
            ):
                given = torch.tensor([ids])
                with torch.no_grad():
                    states = checkpoint.model.encoder(
                        input_ids=given, attention_mask=torch.ones_like(given)
                    ).last_hidden_state
                rows.append([ids, states[0].mean(dim=0).tolist()])
    return said


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        print(json.dumps(score(Path(sys.argv[2]))))
