"""The graph: encoder, pooling, head and projection in one module, exported and fused."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from contlearn.errors import ExportError
from contlearn.inference.manifest import MODEL_FILE
from contlearn.modeling.auto_classes import modeling_auto
from contlearn.modeling.checkpoint import Checkpoint
from contlearn.modeling.majors import save_tokenizer, write_older_keys
from contlearn.modeling.text_model import TextModel, pool
from contlearn.wording import first_line
from contlearn.workspace import read_json

__all__ = [
    "PROJECTION_NODE",
    "PROJECTION_SIZE",
    "GraphModel",
    "export_graph",
    "fuse_graph",
    "quiet",
]

PROJECTION_SIZE: Final = 32
# The tracer names a node after the attribute of the module.
PROJECTION_NODE: Final = "/projection/MatMul"
# The seed is part of the meaning of `projection`: drift compares projections across versions.
_PROJECTION_SEED: Final = 20250101
# What transformers calls the ways of learning a head on a text.
_PROBLEMS: Final = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "squared": "regression",
}
_OPSET: Final = 18
# Pieces of each of the two texts that the graph is traced with.
_TRACED: Final = 16
# What kinds of encoders call these numbers in config.json.
_HEADS: Final = ("num_attention_heads", "n_heads", "n_head")
_WIDTHS: Final = ("hidden_size", "dim", "d_model", "emb_dim")
_CLASSES: Final = {
    "pooled": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "words": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
}


class GraphModel(nn.Module):
    """What is exported: ids and mask in, logits and projection out.

    Shape: input_ids and attention_mask (B, L); logits (B, C), or (B, L, C) for words; projection
    (B, 32).
    """

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.config = model.encoder.config
        self.encoder = model.encoder
        self.head = nn.Linear(model.width, len(model.labels))
        self.has_places, self.pooling = model.has_places, model.pooling
        with torch.no_grad():
            self.head.weight.copy_(model.head.weight)
            self.head.bias.copy_(model.head.bias)
        generator = torch.Generator().manual_seed(_PROJECTION_SEED)
        matrix = torch.randn(PROJECTION_SIZE, model.width, generator=generator)
        self.projection = nn.Linear(model.width, PROJECTION_SIZE, bias=False)
        with torch.no_grad():
            self.projection.weight.copy_(matrix / PROJECTION_SIZE**0.5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Score texts."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = pool(states, attention_mask, self.pooling)  # (B, D)
        scored = states if self.has_places else pooled
        return {"logits": self.head(scored), "projection": self.projection(pooled)}


def export_graph(checkpoint: Checkpoint, folder: Path) -> None:
    """Write model.onnx, config.json and the tokenizer.

    Attention must be "eager", or no fusion finds it later.

    Raises:
        ExportError: When the model cannot be traced.
    """
    model = checkpoint.model
    graph = GraphModel(model).eval()
    _describe(graph, model)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with quiet(), torch.no_grad():
            _trace(graph, folder / MODEL_FILE)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise ExportError(
            f"The model cannot be written as ONNX: {first_line(error)}",
            where=f"an encoder of type {graph.config.model_type}",
            hint="Choose another base model, or report this with the name of the model.",
        ) from error
    save_tokenizer(checkpoint.tokenizer, folder)
    graph.config.save_pretrained(folder)
    write_older_keys(folder)
    _require_one_file(folder)


def fuse_graph(folder: Path, output: Path) -> dict[str, int]:
    """Fuse attention, layer norms and activations with onnxruntime's transformer optimiser.

    Args:
        folder: Holds model.onnx and config.json; it is only read.
        output: Where the fused model.onnx is written.
    Returns:
        How many nodes of each fused kind the graph has now; nothing when the optimiser finds none
        that it knows, and then the model is copied as it is.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    output.mkdir(parents=True, exist_ok=True)
    config = read_json(folder / "config.json")
    wanted = FusionOptions("bert")
    # Embeddings stay apart, so that they can be rounded; and shapes cannot be inferred through
    # onnxruntime's own operators.
    wanted.enable_embed_layer_norm = False
    wanted.enable_shape_inference = False
    with quiet():
        optimizer = optimize_model(
            str(folder / MODEL_FILE),
            "bert",
            num_heads=_first(config, _HEADS),
            hidden_size=_first(config, _WIDTHS),
            optimization_options=wanted,
            opt_level=1,
        )
        found = optimizer.get_fused_operator_statistics()
        fused = {name: int(count) for name, count in found.items() if count}
        if fused:
            optimizer.save_model_to_file(str(output / MODEL_FILE))
        else:
            shutil.copyfile(folder / MODEL_FILE, output / MODEL_FILE)
    return fused


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep tracers and optimisers from printing and warning about what is known and harmless."""
    import logging

    from transformers.utils import logging as transformers_logging

    control: Any = transformers_logging  # partly untyped
    verbosity = control.get_verbosity()
    control.set_verbosity_error()
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            # From torch 2.9 on the TorchScript exporter that optimum-onnx 0.1 uses is deprecated;
            # tracing warns of every shape that becomes a constant. Parity checks the outcome.
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        control.set_verbosity(verbosity)


def _kind(model: TextModel) -> str:
    """Name the nearest of transformers' classes: by text, or by piece."""
    return "words" if model.has_places else "pooled"


def _describe(graph: GraphModel, model: TextModel) -> None:
    """Say in config.json what optimum's and transformers' classes look for."""
    config = graph.config
    if hasattr(config, "use_cache"):
        config.use_cache = False  # it is for decoders
    names = getattr(modeling_auto, _CLASSES[_kind(model)])
    config.architectures = [names.get(config.model_type, type(model.encoder).__name__)]
    config.id2label = dict(enumerate(model.labels.names))
    config.label2id = {name: i for i, name in enumerate(model.labels.names)}
    config.problem_type = None if model.has_places else _PROBLEMS.get(model.loss)
    config._name_or_path = ""  # noqa: SLF001  # else the path of this machine is written


def _trace(graph: GraphModel, path: Path) -> None:
    """Write a graph with torch's TorchScript exporter.

    The other exporter (dynamo) writes attention so that it is not fused, or so that 8-bit graphs
    of it are invalid.
    """
    ids = torch.arange(2 * _TRACED).reshape(2, _TRACED) % int(graph.config.vocab_size)
    mask = torch.ones_like(ids)
    mask[1, _TRACED // 2 :] = 0
    axes = {0: "batch_size", 1: "sequence_length"}
    torch.onnx.export(
        graph,
        ({"input_ids": ids, "attention_mask": mask},),
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits", "projection"],
        dynamic_axes={
            "input_ids": axes,
            "attention_mask": axes,
            "logits": axes if graph.has_places else {0: "batch_size"},
            "projection": {0: "batch_size"},
        },
        do_constant_folding=True,
        opset_version=_OPSET,
        dynamo=False,
    )
    _fix_widths(path, {"logits": graph.head.out_features, "projection": PROJECTION_SIZE})


def _fix_widths(path: Path, widths: Mapping[str, int]) -> None:
    """Write the number of columns into outputs whose shape the exporter did not follow."""
    import onnx

    model = onnx.load(path)
    dims = {item.name: item.type.tensor_type.shape.dim[-1] for item in model.graph.output}
    if any(not dim.HasField("dim_value") for dim in dims.values()):
        for name, width in widths.items():
            dims[name].dim_value = width
        onnx.save(model, path)


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int:
    """Give the first number of these names; 0, which lets the optimiser look, without one."""
    found = (config[name] for name in names if isinstance(config.get(name), int))
    return int(next(found, 0))


def _require_one_file(folder: Path) -> None:
    found = sorted(path.name for path in folder.glob("*.onnx*"))
    if found != [MODEL_FILE]:
        raise ExportError(
            f"The export wrote {', '.join(found) or 'nothing'} where one {MODEL_FILE} is wanted.",
            where=str(folder),
            hint="Models of 2 GB and more do not fit one file; choose a smaller base model.",
        )
