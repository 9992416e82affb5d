"""Which extra of contlearn brings a package that is not installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contlearn.errors import ConfigError

__all__ = ["EXTRAS", "MAJOR_4_ONLY", "missing_package", "transformers_version"]

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

# What of [train] needs transformers 4.57. With version 5, [train5] brings all else of it.
MAJOR_4_ONLY: Final = ("adapters", "optimum")


def transformers_version() -> str | None:
    """Give the version of transformers that is installed, without loading it."""
    try:
        return importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return None


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
                    return _missing(package, extra)
        cause = cause.__cause__ or cause.__context__
    return None


def _missing(package: str, extra: str) -> ConfigError:
    found = transformers_version() or ""
    if extra == "train" and found.partition(".")[0] not in ("", "4"):
        if package in MAJOR_4_ONLY:
            return ConfigError(
                f"This needs the package {package}, which does not work with transformers {found}.",
                where="the extra [train5]",
                hint="Use an environment with transformers 4.57 (`pip install "
                "'contlearn[train]'`); the workspace goes on under either.",
            )
        extra = "train5"
    return ConfigError(
        f"This needs the package {package}, which is not installed.",
        where=f"the extra [{extra}]",
        hint=f"Install it with `pip install 'contlearn[{extra}]'`.",
    )
