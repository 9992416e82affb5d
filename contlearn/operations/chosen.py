"""The version that a command means, and how it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contlearn.context import Context
from contlearn.errors import RegistryError
from contlearn.registry.aliases import resolve_version
from contlearn.registry.versions import ModelVersion

if TYPE_CHECKING:
    from contlearn.inference.predictor import OnnxPredictor

__all__ = ["chosen_version", "load_version"]


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


def load_version(context: Context, version: ModelVersion) -> OnnxPredictor:
    """Load a version out of the registry, as a server would."""
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.inference.signature import require_signature

    public_key = context.workspace.key(context.config.signing.public_key)
    if public_key is not None:
        require_signature(version.path, public_key)
    threads = context.config.serving.threads
    return OnnxPredictor.load(version.path / "onnx", manager=context.manager, threads=threads)
