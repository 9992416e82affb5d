"""Whether the configuration still describes the champion, whose model an update goes on from.

An update that goes on takes encoder, pooling and task from the champion and not from the
configuration: a key that says otherwise would do nothing, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.context import Context
from contlearn.errors import ConfigError, StorageError
from contlearn.modeling.base_check import base_fingerprint, check_saved_by
from contlearn.modeling.base_models import local_folder, look_at_base
from contlearn.registry.versions import ModelVersion
from contlearn.workspace import read_json

__all__ = ["base_inside", "check_same_model"]

_BEGIN_ANEW: Final = (
    "begin again from the new one with all records learnt so far, as soon as new ones wait: "
    "`contlearn update --strategy joint --force`; or make a new workspace for it: "
    "`contlearn init DIR --base {base}`"
)


def check_same_model(context: Context, strategy: str) -> tuple[str, ...]:
    """Check the keys that describe the model against the champion, before anything runs.

    Args:
        context: The opened workspace.
        strategy: What will learn: one that begins again takes the configured base model.
    Returns:
        What does something else than the key's name promises, in sentences.
    Raises:
        ConfigError: When a key would be passed over, or the model would be read wrongly.
    """
    model = context.config.model
    champion = context.registry.champion()
    if champion is None:
        return look_at_base(model.base).notes
    version = context.registry.get(champion)
    facts = version.manifest.model
    if facts.task != model.task:
        raise ConfigError(
            f"The champion, version {champion}, does {facts.task}, and cannot become a model "
            f"for {model.task}.",
            where="model.task in contlearn.toml",
            hint=f'Set it back to "{facts.task}", or make a new workspace: '
            f"`contlearn init DIR --task {model.task}`.",
        )
    notes = list(_notes(context, version))
    implementation = context.manager.get("strategy", strategy, where="training.strategy")
    if getattr(implementation, "begins_again", False):
        return (*notes, *look_at_base(model.base).notes)
    encoder = version.path / "checkpoint" / "encoder"
    notes += check_saved_by(
        encoder, what=f"The encoder of version {champion}", where=f"version {champion}"
    )
    inside = _inside(version)
    if inside["pooling"] != model.pooling:
        raise ConfigError(
            f"The champion, version {champion}, pools its pieces by {inside['pooling']!r}, and an "
            f"update goes on from it: {model.pooling!r} would do nothing.",
            where="model.pooling in contlearn.toml",
            hint=f'Set it back to "{inside["pooling"]}", or {_BEGIN_ANEW.format(base=model.base)}.',
        )
    return (*notes, *_compare_bases(context, version, inside))


def base_inside(version: ModelVersion) -> str:
    """Name the base model that a version truly began from.

    Versions made before this was checked have the name in the configuration of their day in their
    manifest; what was loaded stands with the weights.
    """
    return str(_inside(version)["base"])


def _inside(version: ModelVersion) -> Mapping[str, Any]:
    """Read what stands with the weights; the manifest where there are none any more."""
    try:
        facts = read_json(version.path / "checkpoint" / "checkpoint.json")
    except StorageError:
        facts = {}
    return {**version.manifest.model.to_json(), **facts}


def _compare_bases(
    context: Context, version: ModelVersion, inside: Mapping[str, Any]
) -> tuple[str, ...]:
    """Let another name of the same base model pass, and refuse another base model."""
    configured, within = context.config.model.base, str(inside["base"])
    if _plain(configured) == _plain(within):
        return ()
    folder, former = local_folder(configured), local_folder(within)
    if folder is not None:
        known = inside.get("base_sha256") or (former and base_fingerprint(former))
        if known and base_fingerprint(folder) == known:
            return ()
        if not known and _looks_like(folder, version.path / "checkpoint"):
            note = (
                f"The champion, version {version.version}, began from {within!r}, which is no "
                f"longer there. {configured!r} has its shape and its vocabulary, so it is taken "
                f"for the same at another place; versions go on naming {within!r}."
            )
            return (note,)
    unknown = "" if folder is not None else f" ({configured!r} is not on this machine)"
    raise ConfigError(
        f"The champion, version {version.version}, began from the base model {within!r}, and an "
        f"update goes on from it: {configured!r} would do nothing{unknown}.",
        where="model.base in contlearn.toml",
        hint=f'Set it back to "{within}", or {_BEGIN_ANEW.format(base=configured)}.',
    )


def _plain(name: str) -> str:
    """Write a base model's name in one way: a folder by where it truly is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name.removeprefix("package:").rstrip("/")


# Keys of an encoder's configuration that fine-tuning leaves alone.
_SHAPE: Final = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


def _looks_like(folder: Path, checkpoint: Path) -> bool:
    """Say whether a base model has the shape and the vocabulary of a fine-tuned one."""
    try:
        one, other = (
            read_json(folder / "config.json"),
            read_json(checkpoint / "encoder/config.json"),
        )
        words = [
            read_json(path)["model"].get("vocab")
            for path in (folder / "tokenizer.json", checkpoint / "tokenizer/tokenizer.json")
        ]
    except (StorageError, KeyError):
        return False
    return words[0] == words[1] and all(one.get(key) == other.get(key) for key in _SHAPE)


def _notes(context: Context, version: ModelVersion) -> Iterator[str]:
    """Say which keys do less than somebody may expect who changed them after a promotion."""
    config, number = context.config, version.version
    if config.data.labels:
        # A closed set says what may come in; what the model answers is only ever appended to.
        listed = set(context.task.space_from_labels(config.data.labels).names)
        extra = [name for name in version.label_space.names if name not in listed]
        if extra:
            yield (
                f"data.labels does not list {', '.join(map(repr, extra[:5]))}"
                f"{' and others' if len(extra) > 5 else ''}, which the champion, version {number}, "
                "answers: it goes on answering what it has learnt."
            )
    before = version.manifest.lineage.config
    former = (
        before.get("serving", {}).get("path", config.serving.path),
        before.get("model", {}).get("name", config.model.name),
    )
    if former != (config.serving.path, config.model.name):
        old = (context.workspace.root / former[0] / former[1]).absolute()
        if old.is_dir():
            yield (
                f"When version {number} was made, this model was served from {old}; it is served "
                f"from {context.workspace.serving(config)} now, and nothing follows in the former "
                "folder: a server that reads it stays with what is there."
            )
