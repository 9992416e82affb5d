"""The graph: encoder, pooling, head and projection in one module, exported and fused."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from contlearn.errors import ExportError
from contlearn.modeling.auto_classes import modeling_auto
from contlearn.modeling.checkpoint import Checkpoint
from contlearn.modeling.text_model import TextModel, pool

__all__ = [
    "MODEL_FILE",
    "PROJECTION_NODE",
    "PROJECTION_SIZE",
    "GraphModel",
    "export_graph",
    "fuse_graph",
    "quiet",
]

MODEL_FILE: Final = "model.onnx"
PROJECTION_SIZE: Final = 32
# The tracer names a node after the attribute of the module.
PROJECTION_NODE: Final = "/projection/MatMul"
# The seed is part of the meaning of `projection`: drift compares projections across versions.
_PROJECTION_SEED: Final = 20250101
_TASKS: Final = {"pooled": "text-classification", "words": "token-classification"}
# What transformers calls the ways of learning a head on a text.
_PROBLEMS: Final = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "squared": "regression",
}
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
    """Write model.onnx, config.json and the tokenizer with optimum.

    The module is our own, so optimum is given a configuration of its inputs and outputs: its
    documented way for custom models. Attention must be "eager", or no fusion finds it later.

    Raises:
        ExportError: When the model cannot be traced.
    """
    from optimum.exporters.onnx import export

    model = checkpoint.model
    graph = GraphModel(model).eval()
    _describe(graph, model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx_config = _onnx_config(graph, model)
    try:
        with quiet(), torch.no_grad():
            export(graph, onnx_config, folder / MODEL_FILE, device="cpu")
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise ExportError(
            f"The model cannot be written as ONNX: {str(error).splitlines()[0]}",
            where=f"an encoder of type {graph.config.model_type}",
            hint="Choose another base model, or report this with the name of the model.",
        ) from error
    checkpoint.tokenizer.save_pretrained(folder)
    graph.config.save_pretrained(folder)
    _require_one_file(folder)


def fuse_graph(folder: Path, output: Path) -> dict[str, int]:
    """Fuse attention, layer norms and activations with onnxruntime's transformer optimiser.

    Args:
        folder: Holds model.onnx and config.json; it is only read.
        output: Where the fused model.onnx is written.
    Returns:
        How many nodes of each fused kind the graph has now; nothing when the encoder is of a kind
        that the optimiser does not know, and then the model is copied as it is.
    """
    from optimum.onnxruntime import ORTOptimizer
    from optimum.onnxruntime.configuration import OptimizationConfig

    output.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            optimizer = ORTOptimizer.from_pretrained(folder)
            optimizer.optimize(
                OptimizationConfig(optimization_level=1, disable_shape_inference=True),
                save_dir=output,
                file_suffix="",
            )
            fused: Mapping[str, int] = ORTOptimizer.get_fused_operators(output / MODEL_FILE)
    except (NotImplementedError, KeyError, ValueError):
        # The optimiser knows no such encoder: unfused it is as right; the manifest counts no nodes.
        shutil.copyfile(folder / MODEL_FILE, output / MODEL_FILE)
        return {}
    return {name: int(count) for name, count in fused.items()}


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
    names = getattr(modeling_auto, _CLASSES[_kind(model)])
    config.architectures = [names.get(config.model_type, type(model.encoder).__name__)]
    config.id2label = dict(enumerate(model.labels.names))
    config.label2id = {name: i for i, name in enumerate(model.labels.names)}
    config.problem_type = None if model.has_places else _PROBLEMS.get(model.loss)
    config._name_or_path = ""  # noqa: SLF001  # else the path of this machine is written


def _onnx_config(graph: GraphModel, model: TextModel) -> Any:
    """Describe inputs and outputs, on top of what optimum knows about this kind of encoder."""
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import NormalizedTextConfig

    task = _TASKS[_kind(model)]
    parent: type[Any] = TextEncoderOnnxConfig
    with contextlib.suppress(KeyError, ValueError, AttributeError):
        found = TasksManager.get_exporter_config_constructor(
            "onnx", model_type=graph.config.model_type, task=task, library_name="transformers"
        )
        parent = getattr(found, "func", found)
    axes = {0: "batch_size", 1: "sequence_length"}

    class TextGraphConfig(parent):  # type: ignore[misc]  # optimum is untyped
        NORMALIZED_CONFIG_CLASS = getattr(parent, "NORMALIZED_CONFIG_CLASS", NormalizedTextConfig)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {"input_ids": axes, "attention_mask": axes}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {
                "logits": axes if model.has_places else {0: "batch_size"},
                "projection": {0: "batch_size"},
            }

    return TextGraphConfig(graph.config, task=task)


def _require_one_file(folder: Path) -> None:
    found = sorted(path.name for path in folder.glob("*.onnx*"))
    if found != [MODEL_FILE]:
        raise ExportError(
            f"The export wrote {', '.join(found) or 'nothing'} where one {MODEL_FILE} is wanted.",
            where=str(folder),
            hint="Models of 2 GB and more do not fit one file; choose a smaller base model.",
        )
