"""Bearer tokens: who may do what beyond asking."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from contlearn.errors import ConfigError
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.http.rereading import ChangingFiles

__all__ = ["ROLES", "Role", "Tokens", "read_token", "read_tokens"]

Role: TypeAlias = Literal["predict", "feedback", "control"]
ROLES: Final[tuple[Role, ...]] = ("predict", "feedback", "control")
_CHARACTERS: Final = 16
_log = logging.getLogger("contlearn.serving")


@dataclass(slots=True)
class Tokens:
    """The tokens of each role. A role without tokens has no routes; but anybody may predict."""

    of: Mapping[Role, Sequence[str]] = field(default_factory=dict)
    _read: Callable[[], Mapping[Role, Sequence[str]]] = field(default=dict, init=False)
    _files: ChangingFiles = field(default_factory=lambda: ChangingFiles(()), init=False)

    @classmethod
    def read_from(
        cls, read: Callable[[], Mapping[Role, Sequence[str]]], files: Sequence[Path]
    ) -> Tokens:
        """Make tokens that are read again when their files change; see `refresh`.

        Raises:
            ConfigError: When they cannot be read.
        """
        watched = ChangingFiles(files)
        made = cls(read())
        made._read, made._files = read, watched
        return made

    def refresh(self) -> None:
        """Take up files that have changed; those that cannot be used are passed over, and said.

        A role that had tokens stays closed without them: a file that is emptied opens nothing.
        """
        if not self._files.have_changed():
            return
        try:
            found = self._read()
        except ConfigError as error:
            _log.error("tokens refused, the old ones are kept", extra={"error": error.to_json()})
            return
        closed: dict[Role, Sequence[str]] = dict.fromkeys(self.of, ())
        self.of = closed | dict(found)
        _log.info("tokens read again", extra={"roles": ", ".join(self.of)})

    def has(self, role: Role) -> bool:
        """Say whether this role is anybody's, or was: then it takes a token."""
        return role in self.of

    def require(self, role: Role, authorization: str | None) -> None:
        """Check the bearer token, in a time that says nothing about any token.

        Raises:
            RequestProblem: 401 without a known token, 403 with one of another role.
        """
        scheme, _, given = (authorization or "").partition(" ")
        data = given.strip().encode("utf-8", "replace") if scheme.lower() == "bearer" else b""
        roles: set[Role] = set()
        for other in ROLES:
            for token in self.of.get(other, ()):
                # Every token is compared, wherever the right one stands.
                if hmac.compare_digest(data, token.encode()):
                    roles.add(other)
        if role in roles:
            return
        raise RequestProblem(
            403 if roles else 401,
            f"This needs a token of the role {role}.",
            where="header authorization",
            hint="Send `Authorization: Bearer TOKEN`, one of those in serving.tokens_file.",
            challenge=not roles,
        )


def read_tokens(path: Path) -> dict[Role, list[str]]:
    """Read a file of lines `ROLE TOKEN`; blank lines and lines that begin with # are passed over.

    Raises:
        ConfigError: When it cannot be read, or a line is not of that form.
    """
    found: dict[Role, list[str]] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, token = line.strip().partition(" ")
        role = next((role for role in ROLES if role == name), None)
        if role is None or not token.strip():
            raise ConfigError(
                f"Line {number} is not a role and a token.",
                where=str(path),
                hint=f"Write `ROLE TOKEN`; the roles are {', '.join(ROLES)}.",
            )
        found.setdefault(role, []).append(_long_enough(token.strip(), path))
    return found


def read_token(path: Path) -> str:
    """Read a file that holds one token.

    Raises:
        ConfigError: When it cannot be read, or is too short.
    """
    return _long_enough(_read(path).strip(), path)


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The tokens cannot be read: {error}.",
            where="serving.tokens_file and serving.feedback_token_file in contlearn.toml",
            hint="Name a file that is readable for this user alone.",
        ) from error
    if mode & 0o007:
        _log.warning(
            "tokens can be read by everybody on this machine",
            extra={"where": str(path), "hint": f"chmod 600 {path}"},
        )
    return text


def _long_enough(token: str, path: Path) -> str:
    if len(token) < _CHARACTERS or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"A token is one word of at least {_CHARACTERS} ASCII characters.",
            where=str(path),
            hint="Write random ones: openssl rand -hex 32",
        )
    return token
