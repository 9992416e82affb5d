"""Taking secrets out of what is kept, shown, logged or told: the one place that knows how.

Passwords and keys stand where they are needed: in contlearn.toml, in the files and variables that
it names, and in the environment of a child that works with them. Whatever else is written down goes
through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "HIDDEN",
    "redact",
    "redact_config",
    "redact_value",
    "restore_secrets",
    "secrets_in",
]

HIDDEN: Final = "***"
_NAMES: Final = (
    r"[\w.-]*(?:passw|passphrase|pwd|secret|token(?!s\b|iz|-c)|credential|authorization|cookie|"
    r"signature|api[_-]?key|access[_-]?key|account[_-]?key|connection[_-]?string)[\w.-]*(?<!_file)"
)
# `${NAME}` stands for a variable and is no secret itself.
_VALUE: Final = r"(?!\$\{)"
_PATTERNS: Final = (
    # scheme://user:password@host; a password may hold what should have been escaped in it.
    (
        re.compile(rf"(://[^\s:/@'\"]*:){_VALUE}(?:[^\s'\"/]*|[^\s'\"@]*)@(?=[^\s@])"),
        rf"\1{HIDDEN}@",
    ),
    # https://token@host
    (re.compile(rf"(?i)(\b(?:https?|git\+https?)://){_VALUE}[^\s/@:'\"*]+@"), rf"\1{HIDDEN}@"),
    # The path of an incoming webhook is its secret.
    (re.compile(r"(?i)(https://hooks\.slack(?:-gov)?\.com/)[^\s'\"]+"), rf"\1{HIDDEN}"),
    # ?token=…&sig=…
    (
        re.compile(rf"(?i)([?&;](?:{_NAMES}|key|sig|sas|auth|code|session)=){_VALUE}[^&;#\s'\"]+"),
        rf"\1{HIDDEN}",
    ),
    # password=… as libpq writes it, "secret": "…" as JSON and Python do
    (re.compile(rf"(?i)(\b{_NAMES}['\"]?\s*[=:]\s*)(['\"])(?:(?!\2).)+\2"), rf"\1\2{HIDDEN}\2"),
    (re.compile(rf"(?i)(\b(?:ssl)?(?:password|passwd|pwd)=){_VALUE}[^\s'\"&;]+"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(?i)\b(Bearer|Basic)\s+(?=[^\s'\"]*\d)[A-Za-z0-9._~+/=-]{8,}"),
        rf"\1 {HIDDEN}",
    ),
)
# What may hold a secret at all: most messages do not, and cost a look.
_SUSPICIOUS: Final = re.compile(r"://|=|:\s*['\"]|\b(?:Bearer|Basic)\s", re.IGNORECASE)

# Sections whose keys are a plugin's or a library's own, so that a name must tell.
_FREE: Final = frozenset(
    [
        "options",
        "method_options",
        "strategy_options",
        "rule_options",
        "regularizers",
        "augmentations",
        "client_kwargs",
    ]
)
_SECRET_NAME: Final = re.compile(rf"(?i){_NAMES}|key|sig|sas|auth|pass")
# Options of file systems that say where and how, not who.
_OPEN_OPTIONS: Final = frozenset(
    [
        "account_name",
        "compression",
        "encoding",
        "endpoint",
        "endpoint_url",
        "host",
        "project",
        "protocol",
        "region",
        "region_name",
        "repo_type",
        "revision",
        "target_protocol",
        "user",
        "username",
    ]
)


def redact(text: str, *secrets: str) -> str:
    """Take passwords, tokens and keys out of a text.

    Args:
        text: A message, an address, a command, a log line.
        secrets: Words that are known to be secret, wherever they stand.

    Example:
        >>> redact("postgresql://ann:hunter2@db/x")
        'postgresql://ann:***@db/x'
        >>> redact("https://files.example/a.csv?sig=abc&part=2")
        'https://files.example/a.csv?sig=***&part=2'
    """
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, HIDDEN)
    if _SUSPICIOUS.search(text):
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
    return text


def redact_config(value: Mapping[str, Any]) -> dict[str, Any]:
    """Give a configuration, as `model_dump(mode="json")` gives it, without its secrets.

    Example:
        >>> redact_config({"storage": {"catalog": "postgresql://ann:hunter2@db/x"}})
        {'storage': {'catalog': 'postgresql://ann:***@db/x'}}
    """
    return {str(key): redact_value(item, (str(key),)) for key, item in value.items()}


def restore_secrets(value: Any, current: Any, *, path: tuple[str, ...] = ()) -> Any:
    """Put the secrets of the present configuration back where they were taken out.

    Args:
        value: As `redact_config` left it.
        current: The configuration as it is now; what differs from it otherwise is left alone.
        path: Where in the configuration both stand.
    """
    if isinstance(value, Mapping) and isinstance(current, Mapping):
        return {
            key: restore_secrets(item, current.get(key), path=(*path, str(key)))
            for key, item in value.items()
        }
    if _is_list(value) and _is_list(current) and len(value) == len(current):
        return [restore_secrets(a, b, path=path) for a, b in zip(value, current, strict=True)]
    return current if current is not None and redact_value(current, path) == value else value


def secrets_in(value: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Give the values of a configuration that `redact_config` would hide."""
    if isinstance(value, Mapping):
        return {
            found for key, item in value.items() for found in secrets_in(item, (*path, str(key)))
        }
    if _is_list(value):
        return {found for item in value for found in secrets_in(item, path)}
    is_secret = isinstance(value, str) and path and redact_value(value, path) != value
    return {value} if is_secret else set()


def redact_value(value: Any, path: tuple[str, ...]) -> Any:
    """Give a part of a configuration without its secrets.

    Args:
        value: A section, a list, or a single value.
        path: The keys that lead to it; the places in lists are left out.
    """
    if isinstance(value, Mapping):
        return {str(key): redact_value(item, (*path, str(key))) for key, item in value.items()}
    if _is_list(value):
        return [redact_value(item, path) for item in value]
    if not isinstance(value, str) or not value:
        return value
    if path[0] == "notifications" and path[-1] == "url":
        # Whoever knows the address of an incoming webhook may post to it.
        return re.sub(r"^(https?://)(?:[^/@]*@)?([^/?#]*).*$", rf"\1\2/{HIDDEN}", value)
    is_free = not _FREE.isdisjoint(path[:-1]) and not value.startswith("${")
    named = is_free and _SECRET_NAME.fullmatch(path[-1])
    foreign = path[:2] == ("sources", "options") and path[-1] not in _OPEN_OPTIONS
    return HIDDEN if named or foreign else redact(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
