"""Logs: one JSON object a line on standard error, with fields and never a record's text."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from contlearn.errors import StorageError
from contlearn.redaction import redact

__all__ = ["FORBIDDEN_FIELDS", "configure_logs", "get_logger"]

# What a log line must never hold; a field of this name is replaced, whoever wrote it.
FORBIDDEN_FIELDS: Final = frozenset({"text", "texts", "tokens", "inputs", "row", "body", "token"})
_WITHHELD: Final = "(withheld)"


def configure_logs(
    level: str = "INFO",
    *,
    stream: TextIO | None = None,
    file: Path | None = None,
    max_bytes: int = 10_000_000,
    files: int = 5,
) -> None:
    """Send every log of this process, of libraries too, to one place as JSON lines.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        stream: Where to; standard error if left out.
        file: Where to instead; it is rotated.
        max_bytes: The file is put aside at this size.
        files: How many are kept that were put aside.
    Raises:
        StorageError: When the file cannot be written.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        withhold_texts,
    ]
    handler: logging.Handler = logging.StreamHandler(stream or sys.stderr)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(
                file, maxBytes=max_bytes, backupCount=files, encoding="utf-8"
            )
        except OSError as error:
            raise StorageError(
                f"The log cannot be written: {error.strerror}.",
                where=str(file),
                hint="Name a file in a folder this user may write to, in daemon.log_file.",
            ) from error
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a module: `log.info("version loaded", version=7)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def withhold_texts(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the fields that could carry somebody's text, and take secrets out of the others."""
    for name in FORBIDDEN_FIELDS & event.keys():
        event[name] = _WITHHELD
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
    return event
