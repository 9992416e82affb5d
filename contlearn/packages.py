"""Which extra of contlearn brings a package that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contlearn.errors import ConfigError

__all__ = ["EXTRAS", "missing_package"]

# What each extra brings, by the names that are imported; the base install has no need of them.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ingest": ("pyarrow", "datasketch", "charset_normalizer", "fsspec", "scipy"),
        "serve": ("starlette", "uvicorn", "uvloop", "httptools"),
        "train": (
            "torch",
            "torchvision",
            "transformers",
            "accelerate",
            "peft",
            "adapters",
            "safetensors",
            "avalanche",
            "optimum",
            "onnx",
            "sklearn",
        ),
        "client": ("httpx",),
        "excel": ("python_calamine",),
        "signing": ("model_signing",),
        "traces": ("opentelemetry",),
        "drift": ("river",),
        "search": ("optuna",),
        "hub": ("huggingface_hub", "yaml"),
        "postgres": ("psycopg",),
    }
)


def missing_package(error: BaseException) -> ConfigError | None:
    """Make an error that names the extra out of one about a package that is not installed.

    Args:
        error: What was raised; what it was raised from is looked at too.
    Returns:
        None where it is about something else.
    Example:
        >>> missing_package(ModuleNotFoundError("…", name="pyarrow.parquet")).hint
        "Install it with `pip install 'contlearn[ingest]'`."
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            package = cause.name.partition(".")[0]
            for extra, packages in EXTRAS.items():
                if package in packages:
                    return ConfigError(
                        f"This needs the package {package}, which is not installed.",
                        where=f"the extra [{extra}]",
                        hint=f"Install it with `pip install 'contlearn[{extra}]'`.",
                    )
        cause = cause.__cause__ or cause.__context__
    return None
