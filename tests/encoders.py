"""Tiny random models of many families of encoders, and the whole loop with each of them."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from contlearn.deferred import quiet_imports
from contlearn.workspace import Workspace
from tests import warm
from tests.integration.conftest import Program
from tests.served import running, settings_of, wait_for
from tests.texts import classified, tagged, write_rows

SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
PLACES = 132
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": PLACES,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "cls_token_id": 2,
    "eos_token_id": 3,
    "sep_token_id": 3,
    "initializer_range": 0.05,
    "attention_probs_dropout_prob": 0.0,
}
# RoFormer's own class wants a library for Chinese, Splinter's does not load what it has saved.
GENERAL_TOKENIZER = ("roformer", "splinter")
# Words lie far apart, so that a few rows are learnt in a few steps.
WORD_SCALE = 20.0


@dataclass(frozen=True)
class Family:
    """A family by its name in config.json: how its texts are cut, and what its sizes are called."""

    name: str
    pieces: str = "words"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """What config.json calls it; a word behind that tells two of one family apart."""
        return self.name.split()[0]


FAMILIES = tuple(
    Family(name, pieces, settings)
    for name, pieces, settings in (
        ("albert", "unigram", {"embedding_size": 16}),
        ("bert", "words", {}),
        ("bert-generation", "unigram", {}),
        ("big_bird", "unigram", {"attention_type": "original_full"}),
        ("camembert", "unigram", {}),
        ("convbert", "words", {"embedding_size": 32, "conv_kernel_size": 3}),
        ("data2vec-text", "bytes", {}),
        ("deberta", "bytes", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                              "position_biased_input": False, "max_relative_positions": -1}),
        ("deberta-v2", "unigram", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                                   "position_biased_input": False, "position_buckets": 16,
                                   "norm_rel_ebd": "layer_norm", "share_att_key": True}),
        ("distilbert", "words", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}),
        ("electra", "words", {"embedding_size": 16}),
        ("ernie", "words", {}),
        ("esm", "words", {"position_embedding_type": "rotary", "mask_token_id": 4}),
        ("flaubert", "words", {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
        ("funnel", "words", {"block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32,
                             "n_head": 2, "d_head": 16, "d_inner": 48,
                             "architectures": ["FunnelModel"]}),
        ("ibert", "bytes", {"quant_mode": False}),
        ("layoutlm", "words", {}),
        ("lilt", "unigram", {"hidden_size": 48}),
        ("luke", "bytes", {"entity_vocab_size": 8, "entity_emb_size": 16}),
        ("megatron-bert", "words", {}),
        ("mobilebert", "words", {"embedding_size": 16, "intra_bottleneck_size": 16,
                                 "true_hidden_size": 16}),
        ("modernbert", "bytes", {}),
        ("mpnet", "words", {}),
        ("nystromformer", "unigram", {"num_landmarks": 8, "segment_means_seq_len": 8}),
        ("rembert", "unigram", {"input_embedding_size": 16}),
        ("roberta", "bytes", {}),
        ("roberta-prelayernorm", "bytes", {}),
        ("roc_bert", "words", {"shape_vocab_size": 300, "pronunciation_vocab_size": 300,
                               "enable_pronunciation": False, "enable_shape": False}),
        ("roformer", "words", {"embedding_size": 32}),
        ("splinter", "words", {}),
        ("squeezebert", "words", {"embedding_size": 32}),
        ("xlm", "words", {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
        ("xlm-roberta", "unigram", {}),
        ("xlm-roberta-xl", "unigram", {}),
        ("xmod", "unigram", {"languages": ["en_XX"], "default_language": "en_XX"}),
        # What cannot go, or not as an encoder.
        ("bart", "bytes", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
                           "encoder_attention_heads": 2, "decoder_attention_heads": 2}),
        ("big_bird sparse", "unigram", {"attention_type": "block_sparse", "block_size": 4,
                                        "num_random_blocks": 1}),
        ("bros", "words", {}),
        ("canine", "words", {"num_hash_buckets": 64, "local_transformer_stride": 16}),
        ("fnet", "unigram", {}),
        ("gpt2", "bytes", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": PLACES}),
        ("llama", "unigram", {"num_key_value_heads": 2}),
        ("longformer", "bytes", {"attention_window": 8}),
        ("mamba", "bytes", {"state_size": 4}),
        ("modernbert-decoder", "bytes", {}),
        ("mra", "bytes", {}),
        ("qwen2", "bytes", {"num_key_value_heads": 2}),
        ("qwen3", "bytes", {"num_key_value_heads": 2, "head_dim": 16}),
        ("reformer", "unigram", {"attn_layers": ["local", "lsh"], "axial_pos_shape": [12, 11],
                                 "axial_pos_embds_dim": [16, 16], "attention_head_size": 16,
                                 "feed_forward_size": 48, "is_decoder": False, "num_buckets": 4}),
        ("t5", "unigram", {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2}),
        ("tapas", "words", {"type_vocab_sizes": [3, 256, 256, 2, 256, 256, 10]}),
        ("visual_bert", "words", {"visual_embedding_dim": 16}),
        ("xlnet", "unigram", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48}),
        ("yoso", "unigram", {"use_expectation": True}),
    )
)  # fmt: skip


def write_family(folder: Path, family: Family, texts: Iterable[str], *, seed: int = 0) -> Path:
    """Write a random model of a family, and a tokenizer of its kind that was trained on `texts`."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel

    backend = train_tokenizer(family.pieces, texts)
    kind = CONFIG_MAPPING[family.model_type]
    known = kind().to_dict()
    shape = {key: value for key, value in SHAPE.items() if key in known or key.endswith("token_id")}
    config = kind(**{**shape, "vocab_size": backend.get_vocab_size(), **family.settings})
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        with quiet_imports():
            model = AutoModel.from_config(config)
    finally:
        torch.random.set_rng_state(state)
    with torch.no_grad(), contextlib.suppress(NotImplementedError):
        model.get_input_embeddings().weight.mul_(WORD_SCALE)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    own_tokenizer(family)(tokenizer_object=backend, **SPECIALS).save_pretrained(folder)
    return folder


def own_tokenizer(family: Family) -> Any:
    """Give a family's class of fast tokenizers; the general one where it has none."""
    from transformers import PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import (
        TOKENIZER_MAPPING_NAMES,
        tokenizer_class_from_name,
    )

    names = TOKENIZER_MAPPING_NAMES.get(family.model_type) or (None, None)
    named = names if isinstance(names, str) else names[1]
    if family.name in GENERAL_TOKENIZER:
        named = None
    return (named and tokenizer_class_from_name(named)) or PreTrainedTokenizerFast


def train_tokenizer(pieces: str, texts: Iterable[str]) -> Any:
    """Train a small tokenizer: WordPiece ("words"), byte-level BPE ("bytes") or "unigram"."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    special, texts = list(SPECIALS.values()), list(texts)
    if pieces == "words":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=300, special_tokens=special, show_progress=False
        )
    elif pieces == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        )
    else:
        # The trainer needs more text than there is here: of so little it keeps single letters.
        counts = Counter(word for text in texts for word in text.split())
        words = [(f"▁{word}", math.log(n / counts.total())) for word, n in counts.items()]
        letters = [(letter, -20.0) for letter in sorted({*"▁", *"".join(counts)})]
        model = models.Unigram([*((name, 0.0) for name in special), *words, *letters], unk_id=1)
        backend = Tokenizer(model)
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = None
    if trainer is not None:
        backend.train_from_iterator(texts, trainer)
    # The specials were given first, so they have the first ids.
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return backend


TASKS = ("text-classification", "token-classification")
STEPS = ("init", "update", "parity", "predict", "serve")
ROWS = 200
SETTINGS = """
[model]
name = "tried"
task = "{task}"
base = "{base}"
max_tokens = 32

[data]
held_out_ratio = 0.2
rest_seconds = 0.0
near_duplicates = false

[training]
epochs = {epochs}
batch_size = 8
learning_rate = 3e-3
head_learning_rate = 1e-2
"""
# A head on words has no statistics to be computed from, so it is learnt step by step.
EPOCHS = {"text-classification": 2, "token-classification": 8}
# Always answering the commonest label would be 0.33 and 0.
LEARNT = 0.6


@dataclass
class Walk:
    """How far a family came with a task: the steps it passed, what stopped it, what was measured."""

    family: str
    task: str
    passed: list[str] = field(default_factory=list)
    stopped: str = ""
    precision: str = ""
    relative_difference: float | None = None
    label_agreement: float | None = None
    right: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it passed every step."""
        return self.passed == list(STEPS)


def rows_of(task: str, count: int = ROWS) -> list[dict[str, Any]]:
    """Give labelled rows of our own, of three labels or of two types of entities."""
    if task == "token-classification":
        return tagged(["city", "artist"], count)
    labels = ["billing", "garden", "music"]
    return classified(labels, -(-count // len(labels)))[:count]


def walk(family: Family, task: str, folder: Path) -> Walk:
    """Take a family through init, 200 rows, update, parity, predict and serve."""
    found = Walk(family.name, task)
    rows, asked = rows_of(task), rows_of(task, ROWS + 30)[ROWS:]
    if task == "text-classification":
        asked = classified(["billing", "garden", "music"], 10, seed=7)
    texts = [row["text"] if "text" in row else " ".join(row["tokens"]) for row in rows]
    base = write_family(folder / "base", family, texts)
    root = folder / "ws"
    try:
        _program(root, "init", root, "--base", base, "--task", task, "--name", "tried")
        found.passed.append("init")
        settings = SETTINGS.format(task=task, base=base, epochs=EPOCHS[task])
        (root / "contlearn.toml").write_text(settings, encoding="utf-8")
        write_rows(root / "inbox" / "rows.jsonl", rows)
        _program(root, "update")
        found.passed.append("update")
        export = _program(root, "show", "1")["export"]
        found.precision = " ".join(filter(None, (export["precision"], export["recipe"])))
        found.relative_difference = export["tried"][0]["relative_difference"]
        found.label_agreement = export["label_agreement"]
        found.passed.append("parity")
        asked_file = write_rows(folder / "asked.jsonl", [_without_answer(row) for row in asked])
        said = _program(root, "predict", "--file", asked_file)["predictions"]
        found.right = sum(map(_is_right, asked, said)) / len(asked)
        if found.right < LEARNT:
            raise Stopped(f"only {found.right:.0%} of new rows are answered rightly")
        found.passed.append("predict")
        _serve(root, [_without_answer(row) for row in asked], said)
        found.passed.append("serve")
    except Stopped as stopped:
        found.stopped = str(stopped).replace(str(base), family.name)
    return found


class Stopped(Exception):
    """A step did not go; it says why."""


def _without_answer(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key in ("text", "tokens")}


def _is_right(row: dict[str, Any], said: dict[str, Any]) -> bool:
    if "label" in row:
        return bool(said["label"] == row["label"])
    tagged_words = zip(row["tokens"], row["tags"], strict=True)
    wanted = [(word, tag[2:]) for word, tag in tagged_words if tag != "O"]
    return [(one["text"], one["type"]) for one in said["entities"]] == wanted


def _answer(said: dict[str, Any]) -> object:
    """Give what was answered, without its numbers."""
    if "label" in said:
        return said["label"]
    return [(one["start"], one["end"], one["type"]) for one in said["entities"]]


def _program(root: Path, *arguments: object) -> dict[str, Any]:
    """Run a command with `--json`: an update in a process of its own, all else in this one."""
    if arguments[0] == "update":
        whole = ("--workspace", root, *arguments, "--json")
        code, out, err = warm.run(whole, environ={"OMP_NUM_THREADS": "1"})
    else:
        code, out, err = Program(root).look(*arguments, "--json")
    answer: dict[str, Any] = json.loads(out) if out.strip() else {}
    if code:
        rules = [rule["message"] for rule in answer.get("reasons", ()) if rule["passed"] is False]
        said = answer.get("error") or " ".join(rules) or err
        raise Stopped(str(said).strip()[:1000])
    return answer


def _serve(root: Path, rows: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    """Ask a real server on a free port, which must answer as `predict` did."""
    key = "texts" if "text" in rows[0] else "inputs"
    asked = [row["text"] for row in rows] if key == "texts" else rows
    with running(settings_of(Workspace(root))) as server:
        wait_for(lambda: server.service.is_ready)
        answer = httpx.post(f"{server.address}/predict", json={key: asked}, timeout=60)
    if answer.status_code != 200:
        raise Stopped(f"the server answers {answer.status_code}: {answer.text[:300]}")
    if list(map(_answer, answer.json()["predictions"])) != list(map(_answer, said)):
        raise Stopped("the server answers otherwise than predict")
