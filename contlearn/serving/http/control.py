"""The routes that change something; without a token of the role control there are none of them."""

from __future__ import annotations

import asyncio

from contlearn.serving.http.call import Call
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.wire import parse_json
from contlearn.serving.versions.roles import parse_roles

__all__ = ["load", "roles", "unload"]


async def roles(call: Call) -> None:
    """GET and POST /models/NAME/roles: canary, shadow, and versions asked by number."""
    call.require("control")
    service = call.service
    if call.scope["method"] != "POST":
        await call.json(service.trials.facts())
        return
    value = parse_json(await call.body(100_000))
    wanted = parse_roles(value, service.shelf.roles)
    await asyncio.to_thread(service.trials.change, wanted, f"request {call.request_id}")
    await call.json(service.trials.facts(), status=202)


async def load(call: Call) -> None:
    """POST /v2/repository/models/NAME/load: look at the pointer now instead of in a moment."""
    call.require("control")
    service = call.service
    await call.body(100_000)  # Triton's client sends parameters; none of them may change a model
    before = service.follower.current
    await asyncio.to_thread(service.follower.check)
    problem = service.follower.problem
    if problem is not None and service.follower.current is before:
        raise RequestProblem(
            503, problem.what, where=problem.where, hint=problem.hint, reason="not_ready"
        )
    await call.json({})


async def unload(call: Call) -> None:
    """POST /v2/repository/models/NAME/unload: a champion is replaced, never taken away."""
    call.require("control")
    await call.body(100_000)
    raise RequestProblem(
        400,
        f"The model {call.service.settings.name!r} cannot be unloaded.",
        where="path",
        hint="Promote or roll back to another version, or stop the server.",
    )
