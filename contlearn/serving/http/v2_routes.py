"""The routes of the Open Inference Protocol V2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from contlearn.serving.http.call import CANARY, Call
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.v2 import InferRequest, OutputTensor, encode_answer, parse_infer
from contlearn.serving.http.v2_ids import id_tensors, read_ids
from contlearn.serving.http.wire import parse_json
from contlearn.serving.service import ReadTexts, Service
from contlearn.serving.versions.version import Answer, Item, LoadedVersion
from contlearn.types import Encoding
from contlearn.version import __version__

__all__ = [
    "all_stats",
    "index",
    "infer",
    "model_config",
    "model_metadata",
    "model_ready",
    "model_stats",
    "server_live",
    "server_metadata",
    "server_ready",
]

_JSON: Final = (b"content-type", b"application/json")
_EMPTY: Final = {"FP32": np.nan, "INT64": -1, "BOOL": False}
_NUMPY: Final = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_}
_BINARY: Final = (b"content-type", b"application/octet-stream")


async def server_metadata(call: Call) -> None:
    """GET /v2."""
    await call.json(
        {
            "name": "contlearn",
            "version": __version__,
            "extensions": [
                "binary_tensor_data",
                "classification",
                "statistics",
                "model_configuration",
                "model_repository",
            ],
        },
    )


async def server_live(call: Call) -> None:
    """GET /v2/health/live."""
    alive = call.site.alive
    await call.json({"live": alive}, status=200 if alive else 503)


async def server_ready(call: Call) -> None:
    """GET /v2/health/ready."""
    is_ready = call.site.is_ready
    await call.json({"ready": is_ready}, status=200 if is_ready else 503)


async def model_ready(call: Call) -> None:
    """GET /v2/models/NAME/ready."""
    service = call.service
    try:
        _version(call)
    except RequestProblem as problem:
        if problem.status != 503:
            raise
    body = {"name": service.settings.name, "ready": service.is_ready}
    await call.json(body, status=200 if service.is_ready else 503)


async def model_metadata(call: Call) -> None:
    """GET /v2/models/NAME."""
    service = call.service
    version = _version(call)
    await call.json(
        {
            "name": service.settings.name,
            "versions": [str(each.number) for each in service.versions()],
            "platform": "contlearn_onnxruntime",
            # Either text, or ids that the client tokenised itself.
            "inputs": [
                {"name": name, "datatype": datatype, "shape": shape}
                for name, datatype, shape in _inputs(version)
            ],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": shape}
                for name, datatype, shape in _outputs(service, version)
            ],
            "parameters": {
                "task": service.settings.task.name,
                "labels": orjson.dumps(version.label_names).decode(),
            },
        },
    )


async def model_config(call: Call) -> None:
    """GET /v2/models/NAME/config, in the words of Triton's ModelConfig."""
    service = call.service
    version = _version(call)
    await call.json(
        {
            "name": service.settings.name,
            "platform": "contlearn_onnxruntime",
            "backend": "contlearn",
            "version_policy": {"specific": {"versions": [v.number for v in service.versions()]}},
            "max_batch_size": 0,
            "input": [
                {"name": name, "data_type": _triton(datatype), "dims": shape, "optional": True}
                for name, datatype, shape in _inputs(version)
            ],
            "output": [
                {
                    "name": name,
                    "data_type": _triton(datatype),
                    "dims": shape,
                }
                for name, datatype, shape in _outputs(service, version)
            ],
            "instance_group": [
                {"name": "workers", "kind": "KIND_CPU", "count": service.settings.engine.workers}
            ],
            "parameters": {},
        },
    )


async def model_stats(call: Call) -> None:
    """GET /v2/models/NAME/stats."""
    await call.json({"model_stats": [_stats(call.service, _version(call))]})


async def all_stats(call: Call) -> None:
    """GET /v2/models/stats."""
    services = call.site.services.values()
    await call.json({"model_stats": [_stats(each, each.version()) for each in services]})


def _stats(service: Service, version: LoadedVersion) -> dict[str, Any]:
    totals = service.lane.totals
    compute = {"count": totals.texts, "ns": int(totals.compute_seconds * 1e9)}
    return {
        "name": service.settings.name,
        "version": str(version.number),
        "last_inference": int(totals.last * 1000),
        "inference_count": totals.texts,
        "execution_count": totals.runs,
        "inference_stats": {
            "success": {
                "count": totals.texts,
                "ns": int((totals.queue_seconds + totals.compute_seconds) * 1e9),
            },
            "fail": {"count": totals.failed, "ns": 0},
            "queue": {"count": totals.texts, "ns": int(totals.queue_seconds * 1e9)},
            "compute_input": {"count": totals.texts, "ns": 0},
            "compute_infer": compute,
            "compute_output": {"count": totals.texts, "ns": 0},
        },
        "batch_stats": [],
    }


async def index(call: Call) -> None:
    """POST /v2/repository/index; the body may be empty, as Triton's client leaves it."""
    body = await call.body(10_000)
    wants_ready = parse_json(body).get("ready", False) if body.strip() else False
    if not isinstance(wants_ready, bool):
        raise RequestProblem(400, "ready is neither true nor false.", where="ready")
    rows: list[dict[str, str]] = []
    for service in call.site.services.values():
        rows += _index(service, wants_ready=wants_ready)
    await call.json(rows)


def _index(service: Service, *, wants_ready: bool) -> list[dict[str, str]]:
    name, problem = service.settings.name, service.follower.problem
    reason = "" if problem is None else problem.what
    rows = [
        {
            "name": name,
            "version": str(version.number),
            "state": "READY" if service.is_ready else "UNAVAILABLE",
            "reason": reason,
        }
        for version in service.versions()
    ]
    if wants_ready:
        return [row for row in rows if row["state"] == "READY"]
    return rows or [
        {
            "name": name,
            "version": "",
            "state": "UNAVAILABLE",
            "reason": reason or "no version has been promoted",
        }
    ]


async def infer(call: Call) -> None:
    """POST /v2/models/NAME/infer."""
    call.require_if_closed()
    service = call.service
    length = call.header(b"inference-header-content-length")
    request = parse_infer(await call.body(), length)
    number = None if "version" not in call.scope["path_params"] else _version(call).number
    if "input_ids" in request.inputs:
        # Ids mean something only to the tokenizer of the version they were made for.
        asked = service.version(number)
        items: list[Item] = list(read_ids(request, asked, service.settings.limits.texts))
        lengths = [len(item.input_ids) for item in items if isinstance(item, Encoding)]
        number = asked.number
        read = ReadTexts([], lengths, list(range(len(items))), {})
    else:
        read = service.read_inputs(_texts(request), name="inputs[0].data")
        items = list(read.inputs)
    version, answers, request_id = await service.serve_request(
        items,
        read.lengths,
        places=read.places,
        request_id=call.request_id,
        number=number,
        wish=call.header(CANARY),
        deadline_seconds=request.timeout_seconds,
        gone=call.gone,
    )
    call.answered_as(request_id)
    by_ids = "input_ids" in request.inputs
    tensors = id_tensors(version, answers, items) if by_ids else _tensors(service, version, answers)
    if read.problems:
        tensors = {name: _with_gaps(tensor, read) for name, tensor in tensors.items()}
    answer, head = encode_answer(
        model=service.settings.name,
        version=version.number,
        request=request,
        tensors=tensors,
        defaults=["logits"] if by_ids else [name for name, _, _ in _outputs(service, version)],
        labels=version.predictor.label_space.names,
        request_id=request_id,
        errors=[{"index": place, **problem.of_text()} for place, problem in read.problems.items()],
    )
    if head is None:
        await call.bytes(answer, headers=[_JSON])
    else:
        size = (b"inference-header-content-length", b"%d" % head)
        await call.bytes(answer, headers=[_BINARY, size])


def _version(call: Call) -> LoadedVersion:
    """Check name and version of the path."""
    service, given = call.service, call.scope["path_params"]
    number = given.get("version")
    if number is None:
        return service.version()
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise RequestProblem(
            404, f"{number[:40]!r} is no version.", where="path", hint="Versions are numbers."
        )
    return service.version(int(number))


def _texts(request: InferRequest) -> tuple[str, ...]:
    if len(request.inputs) != 1:
        raise RequestProblem(
            400,
            f"There are {len(request.inputs)} inputs; one is needed.",
            where="inputs",
            hint="Send one BYTES tensor named text, with one text an element.",
        )
    (tensor,) = request.inputs.values()
    if tensor.datatype != "BYTES":
        raise RequestProblem(
            400,
            f"The input {tensor.name!r} has the type {tensor.datatype}, not BYTES.",
            where="inputs[0].datatype",
            hint="Send texts; the server tokenises them itself.",
        )
    if len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise RequestProblem(
            400,
            f"The shape {list(tensor.shape)} is not a list of texts.",
            where="inputs[0].shape",
            hint="Use [N], or [N, 1].",
        )
    return tensor.texts


def _triton(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _inputs(version: LoadedVersion) -> list[tuple[str, str, list[int]]]:
    names = getattr(version.predictor, "graph_inputs", ())
    return [("text", "BYTES", [-1]), *((name, "INT64", [-1, -1]) for name in names)]


def _outputs(service: Service, version: LoadedVersion) -> list[tuple[str, str, list[int]]]:
    found = [
        (output.name, output.datatype, [-1] if output.width is None else [-1, output.width])
        for output in service.settings.task.tensors(version.predictor.label_space)
    ]
    return found if version.unknown_rule is None else [*found, ("unknown", "BOOL", [-1])]


def _tensors(
    service: Service, version: LoadedVersion, answers: Sequence[Answer]
) -> Mapping[str, OutputTensor]:
    """Make every output that the task names. Shape: (B,), or (B, width)."""
    task, space, count = service.settings.task, version.predictor.label_space, len(answers)
    values = [task.tensor_values(answer.prediction, space) for answer in answers]
    found = {}
    for output in task.tensors(space):
        shape = (count,) if output.width is None else (count, output.width)
        column: Any = [value[output.name] for value in values]
        if output.datatype != "BYTES":
            column = np.array(column, dtype=_NUMPY[output.datatype]).reshape(shape)
        found[output.name] = OutputTensor(output.name, output.datatype, shape, column)
    if version.unknown_rule is not None:
        unknown = np.array([answer.is_unknown is True for answer in answers], dtype=np.bool_)
        found["unknown"] = OutputTensor("unknown", "BOOL", (count,), unknown)
    return found


def _with_gaps(tensor: OutputTensor, read: ReadTexts) -> OutputTensor:
    """Leave the places of texts that could not be used empty: "", NaN, -1, false."""
    count = len(read.places) + len(read.problems)
    shape = (count, *tensor.shape[1:])
    if not isinstance(tensor.data, np.ndarray):
        texts = [""] * count
        for place, text in zip(read.places, tensor.data, strict=True):
            texts[place] = text
        return OutputTensor(tensor.name, tensor.datatype, shape, texts)
    data = np.full(shape, _EMPTY[tensor.datatype], dtype=tensor.data.dtype)
    data[read.places] = tensor.data
    return OutputTensor(tensor.name, tensor.datatype, shape, data)
