"""The version that a command means."""

from __future__ import annotations

from contlearn.context import Context
from contlearn.errors import RegistryError
from contlearn.registry.aliases import resolve_version
from contlearn.registry.versions import ModelVersion

__all__ = ["chosen_version"]


def chosen_version(context: Context, version: int | str | None) -> ModelVersion:
    """Give the version that was named by number or alias, or the champion.

    Raises:
        RegistryError: When it is not there, or nothing was promoted yet.
    """
    number = (
        context.registry.champion()
        if version is None
        else resolve_version(context.registry, version)
    )
    if number is None:
        raise RegistryError(
            "No version was promoted yet.",
            where=str(context.workspace.versions),
            hint="Run `contlearn update` first, or name a version.",
        )
    return context.registry.get(number)
