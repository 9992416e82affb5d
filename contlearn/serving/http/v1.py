"""KServe's V1 protocol: instances in, predictions out."""

from __future__ import annotations

from contlearn.serving.http.call import Call
from contlearn.serving.http.plain import predictions
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.wire import parse_json

__all__ = ["model", "models", "predict"]


async def predict(call: Call) -> None:
    """POST /v1/models/NAME:predict."""
    call.require_if_closed()
    value = parse_json(await call.body())
    unknown = value.keys() - {"instances"}
    if unknown:
        raise RequestProblem(
            400,
            f"The field {min(unknown)[:100]!r} is not known.",
            where="body",
            hint="Known: instances. /predict takes more.",
        )
    rows = value.get("instances")
    if not isinstance(rows, list):
        raise RequestProblem(
            400,
            "The body needs a list, instances.",
            where="body",
            hint='For example {"instances": ["where is my parcel?"]}.',
        )
    found, _ = await predictions(call, rows, name="instances")
    await call.json({"predictions": found})


async def models(call: Call) -> None:
    """GET /v1/models."""
    await call.json({"models": list(call.site.services)})


async def model(call: Call) -> None:
    """GET /v1/models/NAME."""
    name, is_ready = call.service.settings.name, call.service.is_ready
    await call.json({"name": name, "ready": is_ready}, status=200 if is_ready else 503)
