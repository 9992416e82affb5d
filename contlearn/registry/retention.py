"""What is kept when time goes by; what is served or needed is never deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from contlearn.registry.aliases import aliases
from contlearn.registry.anchors import anchor_of
from contlearn.registry.versions import Registry
from contlearn.workspace import Workspace

__all__ = ["apply_retention", "finish_deletions", "versions_to_delete"]


def versions_to_delete(registry: Registry, *, protected: Iterable[int] = ()) -> tuple[int, ...]:
    """List what retention would delete.

    Kept are the champion, the one before it, the best proven version of either, the newest
    `retention.versions`, what has an alias, what a running process holds a lease on, and what the
    caller protects (a challenger awaiting approval, say).
    """
    numbers = registry.numbers()
    kept = {*numbers[-registry.config.retention.versions :], *protected, *registry.leased()}
    served = registry.former_champions(2)
    kept.update(served)
    kept.update(aliases(registry).values())
    champion = registry.champion()
    if champion is not None:
        kept.add(champion)
        parent = registry.get(champion).parent
        kept.update(() if parent is None else (parent,))
    kept.update(anchor_of(registry, number) for number in kept & {*served, champion} & {*numbers})
    return tuple(number for number in numbers if number not in kept)


def apply_retention(
    registry: Registry,
    *,
    actor: str,
    protected: Iterable[int] = (),
    dry_run: bool = False,
) -> tuple[int, ...]:
    """Delete old versions from the registry and the serving directory.

    Returns:
        The numbers deleted; a number is never used again.
    Raises:
        WorkspaceLocked: When another process is at work.
        StorageError: When files may not be removed; the next call goes on.
    """
    with registry.lock("deleting old versions"):
        registry.adopt()
        numbers = versions_to_delete(registry, protected=protected)
        if dry_run:
            return numbers
        registry.store.clean()
        for number in numbers:
            registry.journal.append(
                "delete", version=number, actor=actor, reason="older than retention.versions keeps"
            )
            _delete(registry, number)
        # Copies that nobody serves any more; going back to one copies it again.
        served = {*registry.former_champions(2), *registry.leased(), *protected}
        champion = registry.champion()
        for name in registry.serving.names():
            if int(name) not in served and int(name) != champion:
                registry.serving.remove(name)
    return numbers


def finish_deletions(registry: Registry) -> list[str]:
    """Delete what was to be deleted when the writer was killed. The caller holds the lock."""
    record = next(registry.journal.linked("delete"), None)
    if record is None:
        return []
    number = record.version
    if registry.store.folder(str(number)) is None:
        return []
    _delete(registry, number)
    return [f"version {number} was deleted, as had been decided"]


def _delete(registry: Registry, number: int) -> None:
    if number != registry.champion():
        registry.serving.remove(str(number))
    registry.store.remove(str(number))
    _forget_evaluations(registry.workspace, number)


def _forget_evaluations(workspace: Workspace, number: int) -> None:
    """Drop the remembered answers of a version; they are only a cache."""
    shutil.rmtree(workspace.evaluations / f"version-{number}", ignore_errors=True)
