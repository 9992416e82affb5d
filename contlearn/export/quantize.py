"""8-bit graphs, by several recipes: each rounds something else, and costs another time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ExportError
from contlearn.export.blocks import block_embeddings, block_products, split_attention
from contlearn.export.graph import PROJECTION_NODE, quiet
from contlearn.inference.manifest import MODEL_FILE

__all__ = ["LADDER", "STATIC", "quantize_graph"]

# The recipes that "auto" and "int8" try, the fastest first.
LADDER: Final = ("dynamic", "mixed", "blocks")
STATIC: Final = "static"


def quantize_graph(
    folder: Path,
    output: Path,
    *,
    recipe: str,
    reduce_range: bool,
    feeds: Sequence[dict[str, Any]] = (),
) -> None:
    """Write model.onnx with 8-bit weights and products.

    - `dynamic`: one scale for each column of the weights, one for the activations of a run.
    - `mixed`: by blocks where a product makes its input narrower, else as `dynamic`. In encoders
      these are the products after the activation function, whose inputs have the largest outliers.
    - `blocks`: a scale for every 128 numbers of each row, of weights and activations.
    - `static`: as `dynamic`, but the activations' scales are those of calibration inputs.

    In all of them large embedding tables are rounded by blocks, and the projection for drift is
    left as it is: it costs nothing and is compared across versions.

    optimum's ORTQuantizer cannot pass on `DefaultTensorType`, which fused graphs need because
    shapes are not inferred through onnxruntime's own operators; so its engine is called directly.

    Args:
        folder: Holds a fused model.onnx; it is only read.
        output: Where the quantised model.onnx is written.
        recipe: One of those above.
        reduce_range: Use 7 bits, for processors whose 8-bit products saturate.
        feeds: Inputs of the graph to calibrate on; only `static` reads them.
    Raises:
        ExportError: When there is nothing to calibrate on.
    """
    import onnx

    output.mkdir(parents=True, exist_ok=True)
    target = output / MODEL_FILE
    with quiet():
        model = onnx.load(folder / MODEL_FILE)
        block_embeddings(model)
        if recipe == "blocks":
            split_attention(model)
            block_products(model, leave_out=[PROJECTION_NODE])
            onnx.save(model, target)
        elif recipe == "mixed":
            block_products(model, leave_out=[PROJECTION_NODE], only_narrowing=True)
            _dynamic(model, target, reduce_range)
        elif recipe == STATIC:
            split_attention(model)
            _static(model, target, reduce_range, feeds)
        else:
            _dynamic(model, target, reduce_range)


def _dynamic(model: Any, target: Path, reduce_range: bool) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, target, **_settings(reduce_range))


def _static(model: Any, target: Path, reduce_range: bool, feeds: Sequence[dict[str, Any]]) -> None:
    from onnx import TensorProto, helper
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    if not feeds:
        raise ExportError(
            "There is no text to calibrate static int8 on.",
            where='export.precision = "int8-static"',
            hint="It is calibrated on the replay buffer; use a buffer, or another precision.",
        )

    # Tensors of unknown type are passed over in silence; types are not inferred through
    # onnxruntime's own operators.
    known = {item.name for item in (*model.graph.value_info, *model.graph.input)}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    names = {name for node in products for name in (node.input[0], node.output[0])}
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names - known
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
        def __init__(self) -> None:
            self.left: Iterator[dict[str, Any]] = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    quantize_static(
        model,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.MinMax,
        **_settings(reduce_range),
    )


def _settings(reduce_range: bool) -> dict[str, Any]:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType

    return {
        "op_types_to_quantize": ["MatMul", "Attention"],
        "nodes_to_exclude": [PROJECTION_NODE],
        "per_channel": True,
        "reduce_range": reduce_range,
        "weight_type": QuantType.QInt8,
        "extra_options": {"DefaultTensorType": TensorProto.FLOAT, "WeightSymmetric": True},
    }
