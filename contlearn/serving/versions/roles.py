"""Which versions beside the champion answer, and for what: canary, shadow, and further ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from contlearn.serving.http.problems import RequestProblem
from contlearn.workspace import write_json_atomic

__all__ = ["CHALLENGER", "Canary", "Roles", "RolesFile", "Shadow", "parse_roles"]

# In place of a number: the newest whole version above the champion that the gate let pass.
CHALLENGER: Final = "challenger"
VersionName: TypeAlias = int | Literal["challenger"]
_MAX_ALSO: Final = 4
_KEYS: Final = {
    "canary": {"version", "share", "max_latency_ratio"},
    "shadow": {"version", "share"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A version that answers a share of the requests, and is stopped when it does worse.

    Units: `share` 0 to 1; `max_latency_ratio` is how many times the champion's time it may take.
    """

    version: VersionName
    share: float = 0.05
    max_latency_ratio: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A version that sees a share of the requests; its answers are compared, never returned."""

    version: VersionName
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """All that is served beside the champion; `also` can be asked for by number."""

    canary: Canary | None = None
    shadow: Shadow | None = None
    also: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON."""
        canary, shadow = self.canary, self.shadow
        return {
            "canary": None
            if canary is None
            else {
                "version": canary.version,
                "share": canary.share,
                "max_latency_ratio": canary.max_latency_ratio,
            },
            "shadow": None
            if shadow is None
            else {"version": shadow.version, "share": shadow.share},
            "also": list(self.also),
        }


def parse_roles(value: Mapping[str, Any], now: Roles) -> Roles:
    """Read what a client or a file says; what is left out stays as it is.

    Raises:
        RequestProblem: 400 with the field that is wrong.
    """
    unknown = value.keys() - {"canary", "shadow", "also"}
    if unknown:
        raise _wrong(f"The field {sorted(unknown)[0][:100]!r} is not known.", "body")
    made = now
    if "canary" in value:
        part = _part(value, "canary")
        canary = None
        if part is not None:
            canary = Canary(
                version=_version(part, "canary"),
                share=_number(part, "canary", "share", 0.05, 0.0, 1.0),
                max_latency_ratio=_number(part, "canary", "max_latency_ratio", 2.0, 1.0, 1000.0),
            )
        made = replace(made, canary=canary)
    if "shadow" in value:
        part = _part(value, "shadow")
        shadow = None
        if part is not None:
            shadow = Shadow(
                version=_version(part, "shadow"),
                share=_number(part, "shadow", "share", 1.0, 0.0, 1.0),
            )
        made = replace(made, shadow=shadow)
    if "also" in value:
        also = value["also"]
        if (
            not isinstance(also, list)
            or len(also) > _MAX_ALSO
            or not all(_is_number(number) for number in also)
        ):
            raise _wrong(f"also is not a list of up to {_MAX_ALSO} version numbers.", "also")
        made = replace(made, also=tuple(dict.fromkeys(also)))
    return made


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    part = value[name]
    if part is None:
        return None
    if not isinstance(part, dict):
        raise _wrong(f"{name} is neither an object nor null.", name)
    unknown = part.keys() - _KEYS[name]
    if unknown:
        raise _wrong(f"The field {sorted(unknown)[0][:100]!r} is not known.", name)
    return part


def _version(part: Mapping[str, Any], name: str) -> VersionName:
    version = part.get("version")
    if version == CHALLENGER:
        return "challenger"
    if not _is_number(version):
        raise _wrong(
            f"{name}.version is neither a version number nor {CHALLENGER!r}.", f"{name}.version"
        )
    return int(version)  # type: ignore[arg-type]  # _is_number said so


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9


def _number(
    part: Mapping[str, Any], name: str, key: str, default: float, least: float, most: float
) -> float:
    value = part.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(f"{name}.{key} is not a number from {least:g} to {most:g}.", f"{name}.{key}")
    return float(value)


def _wrong(what: str, where: str) -> RequestProblem:
    return RequestProblem(
        400,
        what,
        where=where,
        hint='For example {"canary": {"version": 7, "share": 0.1}, "shadow": null}.',
    )


@dataclass
class RolesFile:
    """Keeps what was changed while serving, so that a restart does not forget it.

    A change in the configuration wins over what was kept under the former one.

    Args:
        path: Where it is kept; None keeps nothing.
        configured: What the configuration says.
    """

    path: Path | None
    configured: Roles = field(default_factory=Roles)

    def read(self) -> Roles:
        """Give what holds now."""
        if self.path is None:
            return self.configured
        with contextlib.suppress(OSError, ValueError, RequestProblem, AttributeError):
            kept = json.loads(self.path.read_bytes())
            if kept.get("configured") == self.configured.to_json():
                return parse_roles(kept["roles"], Roles())
        return self.configured

    def write(self, roles: Roles, note: str) -> None:
        """Keep a change, with what brought it about."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomic(
                self.path,
                {"configured": self.configured.to_json(), "roles": roles.to_json(), "note": note},
            )
