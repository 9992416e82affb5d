"""Everything a server works with, made from the configuration or by a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from contlearn.interfaces import Clock, FieldNames, Task
from contlearn.monitoring.prediction_log import PredictionLog
from contlearn.serving.engine import EngineLimits
from contlearn.serving.version import Load
from contlearn.workspace import SystemClock

__all__ = ["RequestLimits", "ServerSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What one request may hold, and how long it may take to arrive."""

    body_bytes: int = 4_000_000
    texts: int = 1_000
    text_characters: int = 20_000
    words: int = 5_000
    body_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """One model's server.

    Args:
        name: The model's name, as in V2 routes and the label `model`.
        folder: The serving directory: current.json and the version folders.
        task: What reads the inputs.
        load: Loads and verifies a version folder.
        fields: The names of the fields of an input.
        limits: Bounds on a request.
        engine: Workers and queue.
        clock: Time.
        poll_seconds: How often the pointer is looked at.
        drain_seconds: How long a stopping server waits for its requests.
        log: The prediction log; None logs nothing.
        log_text: Log the texts themselves.
        inbox: Where labels sent to /feedback land; None takes no feedback.
        feedback_token: What a client must show to send labels; without one there is no such route.
    """

    name: str
    folder: Path
    task: Task
    load: Load
    fields: FieldNames = field(default_factory=FieldNames)
    limits: RequestLimits = field(default_factory=RequestLimits)
    engine: EngineLimits = field(default_factory=EngineLimits)
    clock: Clock = field(default_factory=SystemClock)
    poll_seconds: float = 1.0
    drain_seconds: float = 30.0
    log: PredictionLog | None = None
    log_text: bool = False
    inbox: Path | None = None
    feedback_token: str | None = None

