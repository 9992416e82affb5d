"""The exceptions of contlearn.

ContlearnError                 what happened, where, what to do; carries the exit code
├── ConfigError        (2)     contlearn.toml, a variable or a flag is wrong
├── UsageError         (2)     a command was asked for something that cannot be
├── RecordError        (1)     a row or a file cannot be used as labelled data
├── PluginError        (2)     a plugin is missing, broken or clashes with another
├── TrainingError      (1)     a challenger could not be fitted
├── EvaluationError    (1)     a measure is undefined or cannot be computed
│   └── TooFewPredictions (1)  drift cannot be judged yet
├── ExportError        (1)     the ONNX model could not be made or differs from its source
├── RegistryError      (1)     a version or a pointer is missing, damaged or refused
│   └── ChampionChanged (1)    another is champion now than when it was decided
├── ServingError       (1)     the server cannot start or load a version
├── StorageError       (1)     the disk is full, a file cannot be written or read
│   └── CatalogUnreachable (1) the catalog's server is away, or went away in the middle
├── WorkspaceError     (2)     the folder is not a workspace
└── WorkspaceLocked    (4)     another process is updating or promoting
    └── LeaseLost      (4)     it was this one's turn, and another may have taken over
"""

from __future__ import annotations

from contlearn.redaction import redact

__all__ = [
    "CatalogUnreachable",
    "ChampionChanged",
    "ConfigError",
    "ContlearnError",
    "EvaluationError",
    "ExportError",
    "LeaseLost",
    "PluginError",
    "RecordError",
    "RegistryError",
    "ServingError",
    "StorageError",
    "TooFewPredictions",
    "TrainingError",
    "UsageError",
    "WorkspaceError",
    "WorkspaceLocked",
]


class ContlearnError(Exception):
    """Say what happened, where, and what to do about it.

    Errors are printed, logged and kept, so that no password or token gets into one.

    Args:
        what: One sentence on what happened, values quoted with their blanks.
        where: The file, line, key or version it happened at.
        hint: What the reader can do now.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = redact(what)
        self.where = None if where is None else redact(where)
        self.hint = hint
        super().__init__(self.what)

    def __str__(self) -> str:
        parts = [self.what if self.where is None else f"{self.what} ({self.where})"]
        if self.hint:
            parts.append(self.hint)
        return " ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))

    def to_json(self) -> dict[str, str | None]:
        """Give the three parts as the fields every JSON answer of contlearn uses."""
        return {"error": self.what, "where": self.where, "hint": self.hint}


def _rebuild(
    kind: type[ContlearnError], what: str, where: str | None, hint: str | None
) -> ContlearnError:
    return kind(what, where=where, hint=hint)


class ConfigError(ContlearnError):
    """The configuration is wrong."""

    exit_code = 2


class UsageError(ContlearnError):
    """A command was asked for something that cannot be."""

    exit_code = 2


class RecordError(ContlearnError):
    """A row or a file cannot be used as labelled data."""


class PluginError(ContlearnError):
    """A plugin is missing, broken, or clashes with another."""

    exit_code = 2


class TrainingError(ContlearnError):
    """A challenger could not be fitted."""


class EvaluationError(ContlearnError):
    """A measure is undefined or cannot be computed."""


class TooFewPredictions(EvaluationError):
    """The server has answered too little for drift to be judged."""


class ExportError(ContlearnError):
    """The ONNX model could not be made, or differs from the model it was made from."""


class RegistryError(ContlearnError):
    """A version or a pointer is missing, damaged, or refused."""


class ChampionChanged(RegistryError):
    """Another process made another version the champion since it was decided."""


class ServingError(ContlearnError):
    """The server cannot start or cannot load a version."""


class StorageError(ContlearnError):
    """The disk is full, or a file cannot be written or read."""


class CatalogUnreachable(StorageError):
    """The server of the catalog is away: whether a transaction it was in counts is not known."""


class WorkspaceError(ContlearnError):
    """The folder is not a contlearn workspace."""

    exit_code = 2


class WorkspaceLocked(ContlearnError):
    """Another process is updating or promoting in this workspace."""

    exit_code = 4


class LeaseLost(WorkspaceLocked):
    """This process stood still for so long that another may have taken its work over."""
