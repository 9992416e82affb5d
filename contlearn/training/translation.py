"""There and back through two translation models that the user names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from contlearn.errors import ConfigError
from contlearn.modeling.weights import check_weights
from contlearn.wording import first_line

__all__ = ["back_translator"]

_BATCH: Final = 16
_WHERE: Final = "training.augmentation.models in contlearn.toml"


def back_translator(models: Sequence[str]) -> Callable[[Sequence[str]], list[str]]:
    """Make a function that takes texts through every model in turn.

    Args:
        models: Folders or hub ids of encoder-decoder models, usually two: there and back.
    Raises:
        ConfigError: When a model cannot be loaded.
    """
    from contlearn.modeling.auto_classes import AutoModelForSeq2SeqLM, AutoTokenizer

    chain: list[tuple[Any, Any]] = []
    for name in models:
        try:
            check_weights(name, what=f"The translation model {name!r}", where=_WHERE)
            load: Any = AutoTokenizer.from_pretrained  # transformers leaves it untyped
            tokenizer = load(name, trust_remote_code=False)
            model = AutoModelForSeq2SeqLM.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True
            ).eval()
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(
                f"The translation model {name!r} cannot be loaded: {first_line(error)}",
                where=_WHERE,
                hint="Name a folder with an encoder-decoder model of transformers in safetensors.",
            ) from error
        chain.append((tokenizer, model))

    def translate(texts: Sequence[str]) -> list[str]:
        import torch

        found = list(texts)
        for tokenizer, model in chain:
            answers: list[str] = []
            for start in range(0, len(found), _BATCH):
                batch = tokenizer(
                    found[start : start + _BATCH], return_tensors="pt", padding=True,
                    truncation=True, max_length=256,
                )  # fmt: skip
                # Some tokenizers also give segments, which no decoder takes.
                inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
                with torch.no_grad():
                    output = model.generate(**inputs, max_new_tokens=256, do_sample=False)
                answers.extend(tokenizer.batch_decode(output, skip_special_tokens=True))
            found = answers
        return [after.strip() or before for before, after in zip(texts, found, strict=True)]

    return translate
