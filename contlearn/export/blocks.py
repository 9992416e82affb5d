"""8-bit weights and activations by blocks: a scale for every 128 numbers of a row.

`quantize_dynamic` gives one scale to all activations of a run and one to a whole embedding table;
one large number then makes all others coarse. onnxruntime's block operators hold one scale for
each block of each row, which costs some speed and keeps far more of the labels.

Source: onnxruntime, docs/ContribOperators.md: MatMulNBits, GatherBlockQuantized and
MultiHeadAttention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "block_embeddings", "block_products", "quantize_rows", "split_attention"]

BLOCK: Final = 128
_DOMAIN: Final = "com.microsoft"
# 4 asks for 8-bit activations, scaled by blocks of each row.
_ACCURACY_LEVEL: Final = 4
# What is carried over from Attention to MultiHeadAttention.
_ATTENTION: Final = frozenset({"num_heads", "scale", "mask_filter_value"})
# Shorter tables are not worth an operator of their own.
_TABLE_ROWS: Final = 64
Model: TypeAlias = Any  # onnx.ModelProto
Node: TypeAlias = Any  # onnx.NodeProto


def quantize_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Round rows to 8 bits around 128, each block of a row with a scale of its own.

    Shape: values (n, k); result (n, blocks * BLOCK), filled up with 128 (zero), and (n, blocks).
    Example:
        >>> rounded, scales = quantize_rows(np.array([[1.0, -127.0]], dtype=np.float32))
        >>> rounded[0, :3].tolist(), scales.tolist()
        ([129, 1, 128], [[1.0]])
    """
    rows, width = values.shape
    blocks = -(-width // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), dtype=np.float32)
    padded[:, :width] = values
    split = padded.reshape(rows, blocks, BLOCK)
    largest = np.abs(split).max(axis=2)
    scales = np.where(largest > 0.0, largest / 127.0, 1.0).astype(np.float32)
    rounded = np.clip(np.rint(split / scales[:, :, None]), -127, 127) + 128
    return rounded.astype(np.uint8).reshape(rows, blocks * BLOCK), scales


def block_embeddings(model: Model) -> None:
    """Put large embedding tables into 8 bits by blocks, in place."""

    def replace(node: Node, weights: dict[str, Any], add: _Add) -> list[Node] | None:
        from onnx import helper

        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.ndim != 2 or len(table) < _TABLE_ROWS:
            return None
        if any(item.name == "axis" and item.i != 0 for item in node.attribute):
            return None
        rounded, scales = quantize_rows(table)
        return [
            helper.make_node(
                "GatherBlockQuantized",
                [
                    add(node.input[0] + "_q8", rounded[:, : table.shape[1]]),
                    node.input[1],
                    add(node.input[0] + "_scales", scales),
                ],
                list(node.output),
                name=f"{node.name}_q8",
                domain=_DOMAIN,
                gather_axis=0,
                quantize_axis=1,
                block_size=BLOCK,
                bits=8,
            )
        ]

    _rewrite(model, replace)


def block_products(
    model: Model, *, leave_out: Iterable[str] = (), only_narrowing: bool = False
) -> None:
    """Let every product with constant weights round both sides by blocks, in place.

    Args:
        model: The graph.
        leave_out: Names of nodes that stay as they are.
        only_narrowing: Only products whose output is narrower than their input.
    """
    left = frozenset(leave_out)

    def replace(node: Node, weights: dict[str, Any], add: _Add) -> list[Node] | None:
        from onnx import helper

        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2 or node.name in left:
            return None
        depth, width = weight.shape
        if only_narrowing and depth <= width:
            return None
        rounded, scales = quantize_rows(np.ascontiguousarray(weight.T))
        return [
            helper.make_node(
                "MatMulNBits",
                [
                    node.input[0],
                    add(node.input[1] + "_q8", rounded.reshape(width, -1, BLOCK)),
                    add(node.input[1] + "_scales", scales),
                ],
                list(node.output),
                name=f"{node.name}_q8",
                domain=_DOMAIN,
                K=depth,
                N=width,
                bits=8,
                block_size=BLOCK,
                accuracy_level=_ACCURACY_LEVEL,
            )
        ]

    _rewrite(model, replace)


def split_attention(model: Model) -> None:
    """Take the product out of fused attention, in place, so that it is rounded like others."""
    # From opset 18 on Split must be told into how many parts.
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    count: dict[str, Any] = {"num_outputs": 3} if opset >= 18 else {}

    def replace(node: Node, weights: dict[str, Any], _add: _Add) -> list[Node] | None:
        from onnx import helper

        if node.op_type != "Attention" or len(node.input) < 4 or any(node.input[4:]):
            return None
        kept = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.input[1] not in weights or set(kept) - _ATTENTION:
            return None
        name = node.name
        parts = [f"{name}_{part}" for part in ("query", "key", "value")]
        return [
            helper.make_node(
                "MatMul", list(node.input[:2]), [f"{name}_qkv"], name=f"{name}_product"
            ),
            helper.make_node(
                "Split", [f"{name}_qkv"], parts, name=f"{name}_split", axis=-1, **count
            ),
            helper.make_node(
                "MultiHeadAttention",
                [*parts, node.input[2], node.input[3]],
                [node.output[0]],
                name=f"{name}_heads",
                domain=_DOMAIN,
                **kept,
            ),
        ]

    _rewrite(model, replace)


_Add: TypeAlias = Callable[[str, "NDArray[Any]"], str]


def _rewrite(
    model: Model, replace: Callable[[Node, dict[str, Any], _Add], list[Node] | None]
) -> None:
    """Replace nodes where `replace` gives others, and drop the weights nobody uses any more."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {
        item.name: numpy_helper.to_array(item)
        for item in graph.initializer
        if item.data_type == 1  # TensorProto.FLOAT
    }
    added: dict[str, Any] = {}

    def add(name: str, values: NDArray[Any]) -> str:
        added[name] = values
        return name

    nodes = []
    for node in graph.node:
        nodes.extend(replace(node, weights, add) or [node])
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(v, name=n) for n, v in added.items())
    used = set(_names_read(graph))
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if all(item.domain != _DOMAIN for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def _names_read(graph: Any) -> Iterator[str]:
    """Give what a graph's nodes read, those inside branches and loops too."""
    for node in graph.node:
        yield from node.input
        for item in node.attribute:
            for inner in (item.g, *item.graphs):
                yield from _names_read(inner)
                yield from (output.name for output in inner.output)
