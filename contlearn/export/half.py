"""16-bit floating point, for graphics processors."""

from __future__ import annotations

from pathlib import Path

from contlearn.export.graph import quiet
from contlearn.inference.manifest import MODEL_FILE

__all__ = ["halve_graph"]


def halve_graph(folder: Path, output: Path) -> None:
    """Write model.onnx with 16-bit weights and arithmetic; inputs and outputs stay as they are.

    Args:
        folder: Holds a model.onnx; it is only read.
        output: Where the 16-bit model.onnx is written.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    output.mkdir(parents=True, exist_ok=True)
    with quiet():
        model = convert_float_to_float16(
            onnx.load(folder / MODEL_FILE), keep_io_types=True, disable_shape_infer=True
        )
        onnx.save(model, output / MODEL_FILE)
