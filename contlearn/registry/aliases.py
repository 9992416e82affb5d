"""Names for versions: `champion`, `previous` and `latest` by themselves, others set by people.

An alias lives in the journal alone: each `alias` record holds all aliases as they are from then on,
so that the newest one is enough, one append changes an alias completely or not at all, and the past
can be asked too. A version with an alias is never deleted.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from contlearn.errors import RegistryError, UsageError
from contlearn.registry.versions import Registry

__all__ = ["BUILT_IN", "aliases", "delete_alias", "resolve_version", "set_alias"]

BUILT_IN: Final = ("champion", "previous", "latest")
# Every record of the journal holds all of them.
_MOST: Final = 100
_FORM: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")


def aliases(registry: Registry) -> dict[str, int]:
    """Give every alias that people set, by name."""
    record = next(registry.journal.linked("alias"), None)
    return {} if record is None else dict(record.aliases)


def resolve_version(registry: Registry, name: int | str) -> int:
    """Give the number of a version that is named by number or by alias.

    Args:
        registry: Where to look.
        name: 3, "3", "v3", "champion", "previous", "latest", or an alias.
    Raises:
        RegistryError: When there is no such alias, or nothing was promoted yet.
    """
    if isinstance(name, int):
        return name
    if re.fullmatch(r"v?[0-9]+", name):
        return int(name.removeprefix("v"))
    if name in BUILT_IN:
        return _built_in(registry, name)
    known = aliases(registry)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, [*BUILT_IN, *known], n=1)
    raise RegistryError(
        f"There is no alias {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
        where=str(registry.journal.path),
        hint="`contlearn alias list` shows those there are; "
        f"`contlearn alias set {name} VERSION` sets it.",
    )


def set_alias(
    registry: Registry,
    name: str,
    version: int | str,
    *,
    actor: str,
    reason: str,
    dry_run: bool = False,
) -> int | None:
    """Let a name stand for a version (number or alias), whatever it stood for before.

    Returns:
        The version it stood for before, or None.
    Raises:
        UsageError: When the name is not to be had.
        RegistryError: When there is no such version, or there are too many aliases.
        WorkspaceLocked: When another process is at work.
    """
    if name in BUILT_IN or re.fullmatch(r"v?[0-9]+", name) or not _FORM.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be an alias"
            + (": it stands for a version by itself." if name in BUILT_IN else "."),
            where="alias set",
            hint="Use lower-case letters, digits, points and hyphens, a letter first, at most 63; "
            f"not {', '.join(BUILT_IN)}, a number, or v and a number.",
        )
    with registry.lock("setting an alias"):
        version = resolve_version(registry, version)
        registry.get(version)
        known = aliases(registry)
        before = known.get(name)
        if before == version or dry_run:
            return before
        if before is None and len(known) >= _MOST:
            raise RegistryError(
                f"There are {_MOST} aliases already.",
                where=str(registry.journal.path),
                hint="Delete one with `contlearn alias delete NAME`.",
            )
        known[name] = version
        _write(registry, name, version, before, known, actor=actor, reason=reason)
    return before


def delete_alias(
    registry: Registry, name: str, *, actor: str, reason: str, dry_run: bool = False
) -> int:
    """Take an alias away; the version stays.

    Returns:
        The version it stood for.
    Raises:
        RegistryError: When there is no such alias.
        UsageError: When it is one that cannot be deleted.
        WorkspaceLocked: When another process is at work.
    """
    if name in BUILT_IN:
        raise UsageError(
            f"{name!r} cannot be deleted: it stands for a version by itself.",
            where="alias delete",
            hint="`contlearn promote` and `contlearn rollback` change what is served.",
        )
    with registry.lock("deleting an alias"):
        known = aliases(registry)
        if name not in known:
            resolve_version(registry, name)
            raise RegistryError(f"There is no alias {name!r}.", where=str(registry.journal.path))
        before = known.pop(name)
        if not dry_run:
            _write(registry, name, None, before, known, actor=actor, reason=reason)
    return before


def _built_in(registry: Registry, name: str) -> int:
    found: int | None
    if name == "champion":
        found = registry.champion()
    elif name == "latest":
        found = registry.latest()
    else:
        former = registry.former_champions(2)
        found = former[0] if len(former) > 1 else None
    if found is None:
        raise RegistryError(
            {
                "champion": "No version was promoted yet.",
                "latest": "There is no version yet.",
                "previous": "There is no former champion.",
            }[name],
            where=str(registry.workspace.versions),
            hint="`contlearn history` shows what was promoted when.",
        )
    return found


def _write(
    registry: Registry,
    name: str,
    version: int | None,
    before: int | None,
    known: dict[str, int],
    *,
    actor: str,
    reason: str,
) -> None:
    fields: dict[str, Any] = {
        "alias": name,
        "version": version,
        "previous": before,
        "actor": actor,
        "reason": reason,
        "aliases": dict(sorted(known.items())),
    }
    registry.journal.append("alias", **fields)
