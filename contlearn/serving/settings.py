"""Everything a server works with, made from the configuration or by a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contlearn.config import Config
from contlearn.errors import ConfigError
from contlearn.inference.processor import available_cores
from contlearn.interfaces import Clock, FieldNames, Task
from contlearn.monitoring.feedback_log import FeedbackLog
from contlearn.monitoring.prediction_log import PredictionLog
from contlearn.serving.engine import EngineLimits
from contlearn.serving.loading import CheckedLoader
from contlearn.serving.version import Load
from contlearn.workspace import SystemClock, Workspace

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager

__all__ = ["MIN_DEADLINE_SECONDS", "RequestLimits", "ServerSettings", "settings_from_config"]

_TOKEN_CHARACTERS: Final = 16
# A client may ask for less time than the server allows, but not for less than this.
MIN_DEADLINE_SECONDS: Final = 0.05


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
        leases: Where it notes which version it uses, so that retention leaves it alone.
        inbox: Where labels sent to /feedback land; None takes no feedback.
        feedback_log: Where they are also kept by request id, so that accuracy can be measured.
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
    leases: Path | None = None
    inbox: Path | None = None
    feedback_log: FeedbackLog | None = None
    feedback_token: str | None = None


def settings_from_config(
    workspace: Workspace, config: Config, manager: PluginManager
) -> ServerSettings:
    """Make a server's settings from the configuration of a workspace.

    Raises:
        PluginError: When there is no such task.
        ConfigError: When the token for feedback cannot be read.
    """
    serving, monitoring, bounds = config.serving, config.monitoring, config.data.limits

    clock = SystemClock()
    return ServerSettings(
        name=config.model.name,
        folder=workspace.serving(config),
        task=manager.get("task", config.model.task, where="model.task")(),
        load=CheckedLoader(manager),
        fields=config.data.field_names(),
        limits=RequestLimits(
            body_bytes=serving.max_body_bytes,
            texts=serving.max_texts,
            text_characters=bounds.text_characters,
            words=bounds.words,
        ),
        engine=EngineLimits(
            workers=serving.threads or available_cores(),
            batch_texts=serving.batch_texts,
            max_queue_texts=max(2_000, 2 * serving.max_texts),
            max_wait_seconds=serving.max_wait_seconds,
            deadline_seconds=serving.deadline_seconds,
        ),
        clock=clock,
        poll_seconds=serving.poll_seconds,
        drain_seconds=serving.drain_seconds,
        log=PredictionLog(
            workspace.predictions,
            clock,
            max_bytes=monitoring.log_bytes,
            max_age_seconds=monitoring.log_age,
            segment_bytes=max(1_000, min(5_000_000, monitoring.log_bytes // 4)),
        )
        if monitoring.log_predictions
        else None,
        log_text=monitoring.log_text,
        leases=workspace.state / "leases",
        inbox=workspace.inbox,
        feedback_log=FeedbackLog(workspace.state / "feedback"),
        feedback_token=_read_token(workspace.root / serving.feedback_token_file)
        if serving.feedback_token_file
        else None,
    )


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The token for feedback cannot be read: {error}.",
            where="serving.feedback_token_file in contlearn.toml",
            hint="Name a file that holds one line, readable for this user alone.",
        ) from error
    if len(token) < _TOKEN_CHARACTERS:
        raise ConfigError(
            f"The token for feedback has only {len(token)} characters.",
            where=str(path),
            hint=f"Write at least {_TOKEN_CHARACTERS} random ones: openssl rand -hex 32 > FILE",
        )
    return token
