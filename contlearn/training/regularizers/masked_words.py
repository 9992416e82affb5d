"""Masked words of unlabelled texts as a second lesson."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from contlearn.errors import ConfigError
from contlearn.training.regularizers.base import RegularizerOptions, RegularizerStart

if TYPE_CHECKING:
    from contlearn.modeling.text_model import TextModel

__all__ = ["MaskedWords"]

_HEAD = "head.safetensors"


class MaskedWords:
    """Adds the loss of guessing masked pieces in the texts of the folder `data.unlabelled`.

    The head it needs is kept with the version and trained on in the next update.

    Source: Devlin et al., "BERT", 2019; Gururangan et al., "Don't Stop Pretraining", 2020.
    """

    name: ClassVar[str] = "masked-words"
    summary: ClassVar[str] = "learns masked words of unlabelled texts besides"

    class Options(RegularizerOptions):
        """Weight of the loss, texts a step, share of masked pieces, texts read, the head's rate."""

        weight: float = Field(0.3, gt=0.0)
        batch_size: int = Field(8, ge=1)
        masked_share: float = Field(0.15, gt=0.0, lt=1.0)
        max_texts: int = Field(20_000, ge=1)
        head_learning_rate: float = Field(1e-3, gt=0.0)

    def __init__(self, options: Options) -> None:
        self.options = options
        self._plugin: Any = None

    def begin(self, start: RegularizerStart) -> Any:
        """Read the texts and take up the head.

        Raises:
            ConfigError: When there is no text, or the tokenizer has no mask.
        """
        from contlearn.training.avalanche.plugins.masked import MaskedPieces, read_texts
        from contlearn.training.resume import load_tensors

        where = "data.unlabelled in contlearn.toml"
        if getattr(start.tokenizer, "mask_token_id", None) is None:
            raise ConfigError(
                "The tokenizer of this base model has no mask piece.",
                where="training.regularizers in contlearn.toml",
                hint="Leave masked-words out, or choose a base model such as BERT.",
            )
        texts = read_texts(start.unlabelled, limit=self.options.max_texts)
        if not texts:
            raise ConfigError(
                f"There is no unlabelled text in {start.unlabelled or 'any folder'}.",
                where=where,
                hint='Put .txt files (a text a line) or .jsonl files ({"text": …} a line) there.',
            )
        kept = None
        if start.state is not None and (start.state / _HEAD).is_file():
            kept = load_tensors(start.state / _HEAD)
        options = self.options
        self._plugin = MaskedPieces(
            start.model,
            texts,
            tokenizer=start.tokenizer,
            max_tokens=start.max_tokens,
            head=kept,
            weight=options.weight,
            batch_size=options.batch_size,
            masked_share=options.masked_share,
            rate=options.head_learning_rate,
        )
        return self._plugin

    def save(self, folder: Path, model: TextModel) -> None:
        """Write the head."""
        from contlearn.training.resume import save_tensors

        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(self._plugin.head.state_dict(), folder / _HEAD)
