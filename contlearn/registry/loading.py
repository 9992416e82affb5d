"""A version of the registry, loaded to answer in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from contlearn.registry.versions import ModelVersion, Registry

if TYPE_CHECKING:
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.plugins.manager import PluginManager

__all__ = ["load_version"]


@contextlib.contextmanager
def load_version(
    registry: Registry, version: ModelVersion, manager: PluginManager
) -> Iterator[OnnxPredictor]:
    """Load a version as a server would, and let go of it at the end.

    Raises:
        RegistryError: When it is not signed, and `signing.public_key` is set.
        ServingError: When a file is missing or changed, or it answers wrongly on this processor.
    """
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.inference.signature import require_signature

    public_key = registry.workspace.key(registry.config.signing.public_key)
    if public_key is not None:
        require_signature(version.path, public_key)
    threads = registry.config.serving.threads
    predictor = OnnxPredictor.load(version.path / "onnx", manager=manager, threads=threads)
    with contextlib.closing(predictor):
        yield predictor
