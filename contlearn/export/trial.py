"""Whether a base model can be trained and exported, tried on a short copy of it."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any, Final

import torch

from contlearn.errors import ContlearnError
from contlearn.export.graph import export_graph, quiet
from contlearn.export.parity import Reference, compare, open_session
from contlearn.inference.manifest import MODEL_FILE
from contlearn.interfaces import HeadSpec
from contlearn.modeling.auto_classes import AutoModel
from contlearn.modeling.base_check import unfit
from contlearn.modeling.base_trial import plain_ids
from contlearn.modeling.checkpoint import Checkpoint, new_checkpoint, position_limit
from contlearn.modeling.packing import pack
from contlearn.modeling.text_model import TextModel
from contlearn.types import Encoding, LabelSpace
from contlearn.wording import first_line

__all__ = ["try_encoder"]

_HEAD: Final = HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
_LAYERS: Final = 2
_VOCABULARY: Final = 500
# Other lengths than the one the graph is traced with.
_LENGTHS: Final = (3, 24, 11)
_TOLERANCE: Final = 1e-3


def try_encoder(base: str) -> tuple[int | None, tuple[str, ...]]:
    """Load a base model as an update does; train a step of its short copy and export that.

    Returns:
        How many pieces of a text it reads (None: any number), and what is to be said.
    Raises:
        ConfigError: When it cannot be loaded, trained or exported.
    """
    checkpoint = new_checkpoint(base, head=_HEAD)
    encoder, what = checkpoint.model.encoder, f"The base model {base!r}"
    limit = position_limit(encoder)
    short = _shortened(encoder)
    if short is None:
        note = f"{what} was loaded, but no short copy of it could be made to try its export on."
        return limit, (note,)
    made = Checkpoint(TextModel(short, head=_HEAD), checkpoint.tokenizer, base)
    try:
        problem = _train_and_export(made, limit)
    except (OSError, MemoryError):
        raise
    except ContlearnError as error:
        problem = error.what
    except Exception as error:  # torch, transformers, onnx and onnxruntime have many
        problem = first_line(error)
    if problem:
        kind = str(encoder.config.model_type)
        raise unfit(kind, f"a short copy of it failed: {problem}", what=what)
    return limit, ()


def _shortened(encoder: Any) -> Any:
    """Make a copy of two layers, few words and random weights; None where its sizes are fixed."""
    config = copy.deepcopy(encoder.config)
    try:
        config.num_hidden_layers = min(_LAYERS, int(config.num_hidden_layers))
        if isinstance(getattr(config, "layer_types", None), list):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        config.vocab_size = min(_VOCABULARY, int(config.vocab_size))
        for name, value in vars(config).items():
            if name.endswith("token_id") and isinstance(value, int) and value >= config.vocab_size:
                setattr(config, name, 0)
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return AutoModel.from_config(config, attn_implementation="eager").float()
    except Exception:  # a family whose sizes hang together in its own way
        return None


def _train_and_export(made: Checkpoint, limit: int | None) -> str:
    """Train for a step, export, and compare; give what is wrong, nothing when all is well."""
    model = made.model
    ids = plain_ids(model.encoder.config, max(_LENGTHS)).tolist()[:limit]
    encodings = [Encoding(input_ids=tuple(ids[:length])) for length in _LENGTHS]
    packed = pack(encodings, pad_id=made.pad_id)
    with torch.random.fork_rng(devices=[]):
        model.train()
        loss = torch.nn.functional.cross_entropy(model(packed), torch.tensor([0, 1, 0]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not any(p.grad is not None for p in model.encoder.parameters()):
        return "nothing of it is trained by a loss on its vectors"
    model.eval()
    with torch.no_grad():
        logits = [model(pack([e], pad_id=made.pad_id)).numpy() for e in encodings]
    reference = Reference(encodings, logits, made.pad_id, has_places=False)
    with tempfile.TemporaryDirectory(prefix="contlearn-") as folder:
        export_graph(made, Path(folder))
        outcome = compare(open_session(Path(folder) / MODEL_FILE), reference, tolerance=_TOLERANCE)
    if outcome.relative_difference > _TOLERANCE:
        return f"its graph's answers differ by {outcome.max_abs_difference:.3g}"
    return ""
