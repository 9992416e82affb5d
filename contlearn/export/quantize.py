"""Dynamic int8, where the processor can do it rightly and it is faster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contlearn.export.graph import MODEL_FILE, quiet

__all__ = ["has_safe_int8", "quantize_graph"]

# These add 8-bit products in 32 bits; others saturate in 16 (onnxruntime's quantization.md).
_SAFE: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def has_safe_int8(features: tuple[str, ...]) -> bool:
    """Say whether 8-bit products are exact on a processor with these features.

    Example:
        >>> has_safe_int8(("avx2", "avx512_vnni")), has_safe_int8(("avx2",))
        (True, False)
    """
    return not _SAFE.isdisjoint(features)


def quantize_graph(folder: Path, output: Path, *, reduce_range: bool) -> None:
    """Write model.onnx with 8-bit weights; activations are scaled as they come.

    optimum's ORTQuantizer cannot pass on `DefaultTensorType`, which fused graphs need because
    shapes are not inferred through onnxruntime's own operators; so its engine is called directly.

    Args:
        folder: Holds a model.onnx; it is only read.
        output: Where the quantised model.onnx is written.
        reduce_range: Use 7 bits, for processors whose 8-bit products saturate.
    """
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    output.mkdir(parents=True, exist_ok=True)
    with quiet():
        quantize_dynamic(
            folder / MODEL_FILE,
            output / MODEL_FILE,
            op_types_to_quantize=["MatMul", "Attention", "Gather"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT, "WeightSymmetric": True},
        )
