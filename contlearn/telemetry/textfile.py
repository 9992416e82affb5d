"""Metrics as a file, for machines where updates run from cron and node_exporter reads a folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from contlearn.errors import StorageError

__all__ = ["write_textfile"]


def write_textfile(path: Path, registry: Collector) -> None:
    """Replace a `.prom` file so that a reader sees the old metrics or the new ones, whole.

    Raises:
        StorageError: When the file cannot be written.
    """
    # node_exporter reads *.prom only, so the temporary name is never taken for metrics.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(generate_latest(registry))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"The metrics could not be written: {error.strerror}.",
            where=str(path),
            hint="Name a file in a folder this user may write to.",
        ) from error
