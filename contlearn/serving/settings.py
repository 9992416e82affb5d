"""Everything a server works with, made from the configuration or by a test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.config import Config, ServingConfig
from contlearn.errors import ConfigError
from contlearn.hosts import OwnHosts
from contlearn.interfaces import Clock, FieldNames, Task
from contlearn.monitoring.feedback_log import FeedbackLog
from contlearn.monitoring.prediction_log import PredictionLog, read_predictions
from contlearn.serving.compute.calibration import choose_layout
from contlearn.serving.compute.engine import EngineLimits
from contlearn.serving.compute.pool import WorkerPool
from contlearn.serving.http.certificates import tls_context
from contlearn.serving.http.doors import Doors
from contlearn.serving.http.known_labels import KnownLabels, WorkspaceLabels
from contlearn.serving.http.request_ids import ClaimedIds
from contlearn.serving.http.tokens import Role, Tokens, read_token, read_tokens
from contlearn.serving.versions.loading import CheckedLoader
from contlearn.serving.versions.roles import Canary, Roles, RolesFile, Shadow
from contlearn.serving.versions.version import Load
from contlearn.workspace import SystemClock, Workspace

if TYPE_CHECKING:
    from contlearn.plugins.manager import PluginManager

__all__ = ["MIN_DEADLINE_SECONDS", "RequestLimits", "ServerSettings", "settings_from_config"]

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
        versions: The registry's folder, where versions lie that were never promoted.
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
        labels: The configuration and the labels that feedback is checked by.
        claimed_ids: The ids that clients gave their requests.
        tokens: Who may send labels and change roles; without tokens there are no such routes.
        roles: What is served beside the champion, and where changes are kept.
        shadow_log: Where the shadow's answers are compared; None logs nothing.
        doors: Where requests may be for, and from.
        root_path: What a proxy puts before every path, and may leave before it.
        tls: uvicorn's ssl_* options.
        max_connections: Further ones are turned away.
    """

    name: str
    folder: Path
    versions: Path | None = None
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
    labels: KnownLabels | None = None
    claimed_ids: ClaimedIds = field(default_factory=lambda: ClaimedIds(None, SystemClock()))
    tokens: Tokens = field(default_factory=Tokens)
    roles: RolesFile = field(default_factory=lambda: RolesFile(None))
    shadow_log: PredictionLog | None = None
    doors: Doors = field(default_factory=Doors)
    root_path: str = ""
    tls: Mapping[str, Any] = field(default_factory=dict)
    max_connections: int = 1_000


def settings_from_config(
    workspace: Workspace, config: Config, manager: PluginManager, *, pool: WorkerPool | None = None
) -> ServerSettings:
    """Make a server's settings from the configuration of a workspace.

    Args:
        workspace: The workspace.
        config: Its configuration.
        manager: Knows the task.
        pool: The processes that compute; threads of this process if left out.

    Raises:
        PluginError: When there is no such task.
        ConfigError: When tokens or certificates cannot be read.
    """
    serving, monitoring, bounds = config.serving, config.monitoring, config.data.limits
    clock = SystemClock()
    layout = choose_layout(workspace.state / "serving", serving)
    key = workspace.key(config.signing.public_key)

    def log(folder: Path) -> PredictionLog | None:
        if not monitoring.log_predictions:
            return None
        return PredictionLog(
            folder,
            clock,
            max_bytes=monitoring.log_bytes,
            max_age_seconds=monitoring.log_age,
            segment_bytes=max(1_000, min(5_000_000, monitoring.log_bytes // 4)),
        )

    return ServerSettings(
        name=config.model.name,
        folder=workspace.serving(config),
        versions=workspace.versions,
        task=manager.task(config.model.task, config.model.task_options, where="model.task"),
        load=CheckedLoader(manager, layout.intra_threads, key)
        if pool is None
        else pool.loader(key),
        fields=config.data.field_names(),
        limits=RequestLimits(
            body_bytes=serving.max_body_bytes,
            texts=serving.max_texts,
            text_characters=bounds.text_characters,
            words=bounds.words,
        ),
        engine=EngineLimits(
            workers=layout.threads,
            ahead=1 if pool is None else 2,
            batch_texts=layout.batch_texts,
            max_queue_texts=max(2_000, 2 * serving.max_texts),
            max_wait_seconds=serving.max_wait_seconds,
            deadline_seconds=serving.deadline_seconds,
        ),
        clock=clock,
        poll_seconds=serving.poll_seconds,
        drain_seconds=serving.drain_seconds,
        log=log(workspace.predictions),
        log_text=monitoring.log_text,
        leases=workspace.state / "leases",
        inbox=workspace.inbox,
        feedback_log=FeedbackLog(workspace.state / "feedback"),
        labels=WorkspaceLabels(config, workspace=workspace),
        claimed_ids=ClaimedIds(
            workspace.state / "requests",
            clock,
            max_age_days=max(1, math.ceil(monitoring.log_age / 86_400)),
            earlier=lambda: (
                str(line.get("request_id", "")) for line in read_predictions(workspace.predictions)
            ),
        ),
        tokens=_tokens(workspace.root, serving),
        roles=RolesFile(
            workspace.state / "serving" / f"roles-{config.model.name}.json", _roles(serving)
        ),
        shadow_log=log(workspace.state / "shadow"),
        doors=Doors(OwnHosts(serving.allowed_hosts, serving.host), serving.cors_origins),
        root_path=serving.root_path,
        tls=_tls(workspace.root, serving),
        max_connections=serving.max_connections,
    )


def _tokens(root: Path, serving: ServingConfig) -> Tokens:
    several, single = (
        root / name if name else None for name in (serving.tokens_file, serving.feedback_token_file)
    )

    def read() -> dict[Role, list[str]]:
        found: dict[Role, list[str]] = {} if several is None else read_tokens(several)
        if single is not None:
            found.setdefault("feedback", []).append(read_token(single))
        return found

    files = tuple(path for path in (several, single) if path is not None)
    return Tokens.read_from(read, files)


def _roles(serving: ServingConfig) -> Roles:
    return Roles(
        canary=Canary(
            version=serving.canary_version,
            share=serving.canary_share,
            max_latency_ratio=serving.canary_max_latency_ratio,
        )
        if serving.canary_version
        else None,
        shadow=Shadow(version=serving.shadow_version, share=serving.shadow_share)
        if serving.shadow_version
        else None,
        also=serving.also_versions,
    )


def _tls(root: Path, serving: ServingConfig) -> dict[str, Any]:
    """Give uvicorn's options, after trying certificate and key.

    Raises:
        ConfigError: When they cannot be read, or do not belong together.
    """
    if not serving.tls_certificate and not serving.tls_key:
        return {}
    import ssl

    options: dict[str, Any] = {
        "ssl_certfile": str(root / serving.tls_certificate),
        "ssl_keyfile": str(root / (serving.tls_key or serving.tls_certificate)),
    }
    if serving.tls_client_authorities:
        options["ssl_ca_certs"] = str(root / serving.tls_client_authorities)
        options["ssl_cert_reqs"] = ssl.CERT_REQUIRED
    try:
        tls_context(options)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate or its key cannot be used: {error}.",
            where="serving.tls_certificate and serving.tls_key in contlearn.toml",
            hint="Name PEM files that belong together and that this user may read.",
        ) from error
    return options
