"""The Open Inference Protocol V2: tensors in, tensors out, as JSON or in binary.

Pure functions over bytes and numpy arrays; the routes are in `v2_routes`.
Source: Open Inference Protocol, REST, with the binary tensor data and classification extensions as
Triton's and KServe's clients speak them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.wire import parse_json

__all__ = [
    "InferRequest",
    "OutputTensor",
    "RequestedOutput",
    "Tensor",
    "encode_answer",
    "parse_infer",
]

_INTEGERS: Final = {"INT64": "<i8", "INT32": "<i4"}
_MAX_ELEMENTS: Final = 50_000_000
_HINT: Final = "See the model's metadata for its tensors: GET /v2/models/NAME."


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input: texts for BYTES, an array for integers."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    texts: tuple[str, ...] = ()
    values: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output the client asks for, and how; `classes` is the classification extension's."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One inference request."""

    id: str | None
    inputs: Mapping[str, Tensor]
    outputs: tuple[RequestedOutput, ...]
    binary_output: bool
    timeout_seconds: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output: texts, or an array of 32-bit floats or 64-bit integers."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[str] | NDArray[Any]


def parse_infer(body: bytes, header_length: str | None) -> InferRequest:
    """Parse a request, binary tensors included.

    Args:
        body: The whole body.
        header_length: The header Inference-Header-Content-Length, when there is one.
    Raises:
        RequestProblem: 400 with the tensor that is wrong.
    """
    head, rest = _split(body, header_length)
    value = parse_json(head)
    items = value.get("inputs")
    if not isinstance(items, list) or not items:
        raise _wrong("There are no inputs.", "inputs", "Send `inputs` as a list of tensors.")
    if len(items) > 16:
        raise _wrong(f"There are {len(items)} inputs.", "inputs", _HINT)
    inputs: dict[str, Tensor] = {}
    offset = 0
    for place, item in enumerate(items):
        tensor, used = _parse_tensor(item, f"inputs[{place}]", rest[offset:])
        if tensor.name in inputs:
            raise _wrong(f"The input {tensor.name!r} stands twice.", f"inputs[{place}]", _HINT)
        inputs[tensor.name] = tensor
        offset += used
    if offset != len(rest):
        raise _wrong(
            f"{len(rest) - offset} bytes are left over after the tensors.",
            "body",
            "The parameters binary_data_size must add up to what follows the header.",
        )
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _wrong("The parameters are not an object.", "parameters", None)
    binary = parameters.get("binary_data_output", False) is True
    timeout = parameters.get("timeout")
    request_id = value.get("id")
    return InferRequest(
        id=str(request_id)[:200] if request_id not in (None, "") else None,
        inputs=inputs,
        outputs=_parse_outputs(value.get("outputs"), binary),
        binary_output=binary,
        timeout_seconds=timeout / 1e6
        if isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0
        else None,
        parameters=parameters,
    )


def encode_answer(
    *,
    model: str,
    version: int,
    request: InferRequest,
    tensors: Mapping[str, OutputTensor],
    defaults: Sequence[str],
    labels: Sequence[str],
    request_id: str,
    errors: Sequence[Mapping[str, Any]] = (),
) -> tuple[bytes, int | None]:
    """Write the outputs that were asked for.

    Args:
        model: The model's name.
        version: Which version answered.
        request: What was asked.
        tensors: Every output there is, by name.
        defaults: What is sent when nothing in particular was asked for.
        labels: The names that the classification extension gives.
        request_id: Sent back as `parameters.request_id`, for feedback.
        errors: What is wrong with texts that were not answered; `parameters.errors`, as JSON in a
            text, since the protocol's parameters are plain values.
    Returns:
        The body, and the length of its JSON part when binary tensors follow it.
    Raises:
        RequestProblem: When an output is asked for that the model does not have.
    """
    wanted = request.outputs or tuple(RequestedOutput(n, request.binary_output) for n in defaults)
    described: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for place, output in enumerate(wanted):
        tensor = tensors.get(output.name)
        if tensor is None:
            raise _wrong(
                f"The model has no output {output.name!r} for these inputs.",
                f"outputs[{place}]",
                f"It gives: {', '.join(tensors)}.",
            )
        if output.classes:
            tensor = _classify(tensor, output.classes, labels, f"outputs[{place}]")
        item: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if output.binary:
            data = _to_bytes(tensor)
            item["parameters"] = {"binary_data_size": len(data)}
            chunks.append(data)
        else:
            values = tensor.data
            item["data"] = (
                [_plain(v) for v in values.ravel().tolist()]
                if isinstance(values, np.ndarray)
                else list(values)
            )
        described.append(item)
    parameters = {"request_id": request_id}
    if errors:
        parameters["errors"] = orjson.dumps(errors).decode()
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": str(version),
        "parameters": parameters,
        "outputs": described,
    }
    if request.id is not None:
        answer["id"] = request.id
    head = orjson.dumps(answer)
    if not chunks:
        return head, None
    return b"".join([head, *chunks]), len(head)


def _wrong(what: str, where: str, hint: str | None) -> RequestProblem:
    return RequestProblem(400, what, where=where, hint=hint)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12:
        raise _wrong(
            f"The JSON length {header_length[:40]!r} is not a number.",
            "header Inference-Header-Content-Length",
            "Give the length of the JSON part in bytes.",
        )
    length = int(header_length)
    if length > len(body):
        raise _wrong(
            f"The JSON part should have {length} bytes, but the body has {len(body)}.",
            "header Inference-Header-Content-Length",
            "Give the length of the JSON part in bytes.",
        )
    return body[:length], body[length:]


def _parse_tensor(item: object, where: str, rest: bytes) -> tuple[Tensor, int]:
    """Give the tensor and how many of the binary bytes it took."""
    if not isinstance(item, dict):
        raise _wrong("The tensor is not an object.", where, _HINT)
    name, datatype = item.get("name"), item.get("datatype")
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable():
        raise _wrong("The tensor has no usable name.", f"{where}.name", _HINT)
    if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in _INTEGERS):
        raise _wrong(
            f"The data type {str(datatype)[:40]!r} is not taken.",
            f"{where}.datatype",
            "BYTES for texts, INT64 or INT32 for token ids.",
        )
    shape = _parse_shape(item.get("shape"), where)
    parameters = item.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _wrong("The parameters are not an object.", f"{where}.parameters", None)
    if "shared_memory_region" in parameters:
        raise _wrong(
            "Shared memory is not supported.", f"{where}.parameters", "Send the data in the body."
        )
    number = math.prod(shape)
    size = parameters.get("binary_data_size")
    if size is None:
        data = item.get("data")
        if not isinstance(data, list):
            raise _wrong("The tensor has no data.", f"{where}.data", "Send it as a list.")
        return _from_json(name, datatype, shape, number, data, where), 0
    if not _is_size(size) or not size <= len(rest):
        raise _wrong(
            f"binary_data_size is {str(size)[:40]}, but {len(rest)} bytes follow.",
            f"{where}.parameters.binary_data_size",
            "Give the size of this tensor's data in bytes.",
        )
    used = int(size)
    return _from_binary(name, datatype, shape, number, rest[:used], where), used


def _parse_shape(shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > 4 or not all(_is_size(n) for n in shape):
        raise _wrong(
            "The shape is not a list of up to four sizes.", f"{where}.shape", "For example [1]."
        )
    sizes = tuple(int(n) for n in shape)
    if math.prod(sizes) > _MAX_ELEMENTS:
        raise _wrong("The tensor is too large.", f"{where}.shape", "Send fewer texts at once.")
    return sizes


def _is_size(value: object) -> bool:
    """Say whether a JSON number is a size; 2.0 is the number 2, as JSON Schema has it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or value.is_integer())


def _from_json(
    name: str, datatype: str, shape: tuple[int, ...], number: int, data: list[Any], where: str
) -> Tensor:
    flat: list[Any] = data
    for _ in range(4):  # nested lists are allowed beside flat ones
        if not any(isinstance(value, list) for value in flat):
            break
        if not all(isinstance(value, list) for value in flat):
            raise _wrong("The data mixes lists and values.", f"{where}.data", None)
        flat = [value for part in flat for value in part]
    if len(flat) != number and not (shape == () and len(flat) == 1):
        raise _wrong(
            f"There are {len(flat)} values, but the shape {list(shape)} holds {number}.",
            f"{where}.data",
            "Send as many values as the shape says.",
        )
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise _wrong("A value is not a text.", f"{where}.data", None)
        return Tensor(name, datatype, shape or (1,), texts=tuple(flat))
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in flat):
        raise _wrong("A value is not a whole number.", f"{where}.data", None)
    try:
        values = np.array(flat, dtype=np.int64).reshape(shape or (1,))
    except OverflowError:
        raise _wrong("A value does not fit 64 bits.", f"{where}.data", None) from None
    return Tensor(name, datatype, shape or (1,), values=values)


def _from_binary(
    name: str, datatype: str, shape: tuple[int, ...], number: int, data: bytes, where: str
) -> Tensor:
    if datatype != "BYTES":
        kind = np.dtype(_INTEGERS[datatype])
        if len(data) != number * kind.itemsize:
            raise _wrong(
                f"{len(data)} bytes do not fill the shape {list(shape)} of {datatype}.",
                f"{where}.parameters.binary_data_size",
                f"{number * kind.itemsize} bytes are needed.",
            )
        values = np.frombuffer(data, dtype=kind).astype(np.int64).reshape(shape or (1,))
        return Tensor(name, datatype, shape or (1,), values=values)
    texts: list[str] = []
    offset = 0
    while offset < len(data):
        if offset + 4 > len(data):
            raise _wrong("The data of the tensor is cut short.", where, None)
        (size,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if size > len(data) - offset or len(texts) >= number:
            raise _wrong(
                "The data of the tensor does not fit its shape.",
                where,
                "Each text is its length in four bytes, little end first, then UTF-8.",
            )
        try:
            texts.append(data[offset : offset + size].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _wrong(f"Text {len(texts)} is not UTF-8.", where, "Send UTF-8.") from error
        offset += size
    if len(texts) != number:
        raise _wrong(
            f"There are {len(texts)} texts, but the shape {list(shape)} holds {number}.",
            f"{where}.shape",
            "Send as many texts as the shape says.",
        )
    return Tensor(name, datatype, shape or (1,), texts=tuple(texts))


def _parse_outputs(items: object, binary: bool) -> tuple[RequestedOutput, ...]:
    if items is None or items == []:
        return ()
    if not isinstance(items, list) or len(items) > 16:
        raise _wrong("The outputs are not a short list.", "outputs", _HINT)
    outputs = []
    for place, item in enumerate(items):
        parameters = item.get("parameters") or {} if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise _wrong("The output has no name.", f"outputs[{place}]", _HINT)
        if not isinstance(parameters, dict):
            raise _wrong("The parameters are not an object.", f"outputs[{place}].parameters", None)
        if "shared_memory_region" in parameters:
            raise _wrong("Shared memory is not supported.", f"outputs[{place}].parameters", None)
        classes = parameters.get("classification", 0)
        if not _is_size(classes):
            raise _wrong(
                "The parameter classification is not a count.",
                f"outputs[{place}].parameters.classification",
                None,
            )
        wanted = parameters.get("binary_data", binary)
        outputs.append(RequestedOutput(item["name"], wanted is True, min(int(classes), 100_000)))
    return tuple(outputs)


def _classify(
    tensor: OutputTensor, classes: int, labels: Sequence[str], where: str
) -> OutputTensor:
    """Give the best classes as "score:index:label", as Triton's classification extension does."""
    if not isinstance(tensor.data, np.ndarray) or tensor.data.ndim != 2:
        raise _wrong(f"The output {tensor.name!r} holds no scores of classes.", where, None)
    count = min(classes, tensor.data.shape[1])
    rows: list[str] = []
    for row in tensor.data:
        if np.isnan(row).all():  # a text that was not answered
            rows += [""] * count
            continue
        best = np.argsort(-row, kind="stable")[:count]
        rows += [f"{row[i]:f}:{i}:{labels[i] if i < len(labels) else ''}" for i in best]
    return OutputTensor(tensor.name, "BYTES", (tensor.data.shape[0], count), rows)


def _to_bytes(tensor: OutputTensor) -> bytes:
    if isinstance(tensor.data, np.ndarray):
        kind = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}[tensor.datatype]
        return np.ascontiguousarray(tensor.data, dtype=kind).tobytes()
    parts = []
    for text in tensor.data:
        data = text.encode("utf-8")
        parts += [struct.pack("<I", len(data)), data]
    return b"".join(parts)


def _plain(value: float) -> float | None:
    return value if not isinstance(value, float) or math.isfinite(value) else None
