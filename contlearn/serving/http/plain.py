"""The plain routes: predict, health, metrics, the page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from contlearn.pages.style import STYLE
from contlearn.serving.http.call import CANARY, Call
from contlearn.serving.http.feedback import CheckedLabels, FeedbackDesk
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.wire import parse_json
from contlearn.serving.service import Service
from contlearn.serving.settings import MIN_DEADLINE_SECONDS
from contlearn.serving.versions.version import Answer, LoadedVersion
from contlearn.telemetry.metrics import encode_metrics

_MAX_LABELS: Final = 1_000

__all__ = ["Page", "feedback", "live", "metrics", "predict", "predictions", "ready", "status"]


async def predict(call: Call) -> None:
    """POST /predict and /models/NAME/predict."""
    call.require_if_closed()
    service = call.service
    value = parse_json(await call.body())
    unknown = value.keys() - {"texts", "inputs", "top", "deadline_seconds"}
    if unknown:
        raise RequestProblem(
            400,
            f"The field {sorted(unknown)[0][:100]!r} is not known.",
            where="body",
            hint="Known: texts, inputs, top, deadline_seconds.",
        )
    name = "texts" if "texts" in value else "inputs"
    rows = value.get(name)
    if not isinstance(rows, list) or ("texts" in value and "inputs" in value):
        raise RequestProblem(
            400,
            "The body needs a list: either texts, or inputs.",
            where="body",
            hint='For example {"texts": ["where is my parcel?"]}.',
        )
    top = _whole_number(value, "top")
    deadline = value.get("deadline_seconds")
    if deadline is not None and (
        not isinstance(deadline, int | float)
        or isinstance(deadline, bool)
        or not deadline >= MIN_DEADLINE_SECONDS
    ):
        raise RequestProblem(
            400,
            f"deadline_seconds is not a number from {MIN_DEADLINE_SECONDS} on.",
            where="deadline_seconds",
        )
    found, version = await predictions(call, rows, name=name, top=top, deadline_seconds=deadline)
    await call.json(
        {
            "predictions": found,
            "model": service.settings.name,
            "version": version.number,
            "request_id": call.request_id,
        },
    )


async def predictions(
    call: Call,
    rows: Sequence[object],
    *,
    name: str,
    top: int | None = None,
    deadline_seconds: float | None = None,
) -> tuple[list[dict[str, object]], LoadedVersion]:
    """Answer texts, or objects with the task's fields.

    Args:
        call: The request; afterwards it has the id that it was answered under.
        rows: What is asked.
        name: The request's field, for messages.
        top: So many scores at most.
        deadline_seconds: At most this long.
    Returns:
        What the client is given for each, what is wrong with it where it cannot be used, and the
        version that answered.
    Raises:
        RequestProblem: When they cannot be answered.
    """
    service = call.service
    read = service.read_inputs(rows, name=name)
    version, answers, request_id = await service.serve_request(
        read.inputs,
        read.lengths,
        places=read.places,
        request_id=call.request_id,
        wish=call.header(CANARY),
        deadline_seconds=deadline_seconds,
        gone=call.gone,
    )
    call.answered_as(request_id)
    flags = service.settings.task.schema().get("properties", {})
    found = [_to_json(answer, top, flags) for answer in answers]
    for place in sorted(read.problems):
        found.insert(place, dict(read.problems[place].of_text()))
    return found, version


def _whole_number(value: Mapping[str, Any], name: str) -> int | None:
    number = value.get(name)
    if number is None:
        return None
    if (
        not isinstance(number, int | float)
        or isinstance(number, bool)
        or not number >= 0
        or int(number) != number
    ):
        raise RequestProblem(400, f"{name} is not a count.", where=name)
    return int(number)


def _to_json(answer: Answer, top: int | None, flags: Container[str]) -> dict[str, object]:
    """Give what the client is given; `flags` are the fields that the task's answers may have."""
    value: dict[str, object] = answer.prediction.to_json()
    scores = answer.prediction.scores
    if scores is not None and top is not None:
        value["scores"] = dict(sorted(scores.items(), key=lambda item: -item[1])[:top])
    if answer.is_unknown is not None:
        value["unknown"] = answer.is_unknown
    if answer.truncated and "truncated" in flags:
        value["truncated"] = True
    return value


async def live(call: Call) -> None:
    """GET /health/live: the process runs and follows the champion."""
    alive = call.site.alive
    await call.json({"live": alive}, status=200 if alive else 503)


async def ready(call: Call) -> None:
    """GET /health/ready: a version of every model can answer."""
    waiting = [service for service in call.site.services.values() if not service.is_ready]
    facts = (waiting[0] if waiting else call.service).facts()
    if facts["ready"]:
        await call.json({"ready": True, "version": facts["version"], "problem": facts["problem"]})
        return
    problem = facts["problem"] or {
        "error": "The server is stopping."
        if facts["draining"]
        else "No version has been promoted yet.",
        "where": f"model {facts['model']!r}",
        "hint": "Run `contlearn update`; the server takes the first version up by itself.",
    }
    body = {"ready": False, "version": None, **problem, "request_id": call.request_id}
    await call.json(body, status=503, headers=[(b"retry-after", b"5")])


async def metrics(call: Call) -> None:
    """GET /metrics."""
    for service in call.site.services.values():
        service.metrics.ready.set(float(service.is_ready))
        service.trials.facts()
    body, content_type = encode_metrics(call.site.registry, call.header(b"accept") or "")
    await call.bytes(body, headers=[(b"content-type", content_type.encode("ascii"))])


class Page:
    """GET /: one page to try the model by hand, without anything from elsewhere."""

    def __init__(self, root_path: str = "") -> None:
        page = (files("contlearn.serving") / "page.html").read_bytes()
        page = page.replace(b"<style>STYLE<", f"<style>{STYLE}<".encode(), 1)
        # What it asks for is asked for below the proxy's path, with or without a slash at its end.
        base = f'<base href="{root_path}/">' if root_path else ""
        self.html = page.replace(b"<head>", f"<head>{base}".encode(), 1)
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'"
            for part in re.findall(rb"<(?:script|style)>(.*?)</(?:script|style)>", self.html, re.S)
        ]
        allowed = " ".join(hashes)
        self.policy = (
            f"default-src 'none'; connect-src 'self'; img-src data:; script-src {allowed}; "
            f"style-src {allowed}; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
        )

    async def __call__(self, call: Call) -> None:
        """Answer with the page."""
        await call.bytes(
            self.html,
            headers=[
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-security-policy", self.policy.encode("ascii")),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ],
        )


async def status(call: Call) -> None:
    """GET /status and /models/NAME/status: what the page shows."""
    pool = call.site.pool
    workers = {} if pool is None else {"worker_pids": pool.pids}
    asks = {"token_needed": call.site.settings[0].tokens.has("predict")}
    await call.json({**call.service.facts(), "models": list(call.site.services), **asks, **workers})


async def feedback(call: Call) -> None:
    """POST /feedback and /models/NAME/feedback: one label, or a list of them."""
    call.require("feedback")
    service = call.service
    desk = service.desk
    if desk is None:
        raise RequestProblem(404, "This model takes no feedback.", where="path")
    value = parse_json(await call.body())
    items = value.get("labels", [value])
    if not isinstance(items, list) or not 0 < len(items) <= _MAX_LABELS:
        raise RequestProblem(
            400, f"labels is not a list of up to {_MAX_LABELS}.", where="labels", hint=None
        )
    where = [f"labels[{place}]" for place in range(len(items))]
    counts = service.metrics.feedback
    try:
        # In a thread: the catalog may be asked, and the disk is written to.
        found, is_new = await asyncio.to_thread(_take_labels, service, desk, items, where)
    except RequestProblem as problem:
        counts["unknown" if problem.status == 404 else "refused"].inc()
        raise
    counts["accepted" if is_new else "duplicate"].inc(len(found.answers))
    body = {
        "accepted": len(found.answers),
        "new": is_new,
        "new_labels": list(found.new_labels),
        "request_id": call.request_id,
    }
    await call.json(body, status=202)


def _take_labels(
    service: Service, desk: FeedbackDesk, items: Sequence[object], where: Sequence[str]
) -> tuple[CheckedLabels, bool]:
    """Check labels, put them into the inbox, and note them for the measured accuracy."""
    found = desk.check(items, where)
    is_new = desk.accept([item.row for item in found.answers])
    if service.settings.feedback_log is not None:
        # Also where the very same row was taken before: it came for an answer of its own.
        labels = [(item.request_id, item.index, item.answer) for item in found.answers]
        # The label itself lies in the inbox; what fails here costs a measurement only.
        with contextlib.suppress(OSError):
            service.settings.feedback_log.add(labels, service.settings.clock.now())
    return found, is_new
