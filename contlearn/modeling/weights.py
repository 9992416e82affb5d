"""Which files a model's weights are read from: looked at before transformers follows them.

The library reads whatever its index names, and unpickles what does not end in .safetensors; an
adapter's configuration sends it to another model altogether. So names are checked first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ConfigError
from contlearn.modeling.base_check import WHERE

__all__ = ["check_weights"]

_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_ADAPTER: Final = "adapter_config.json"
# In config.json, instead of the two names above.
_EXPLICIT: Final = "transformers_weights"
_SHOWN_CHARACTERS: Final = 120


def check_weights(source: str, *, what: str, where: str = WHERE) -> None:
    """Check that a model's weights are safetensors of its own folder.

    Args:
        source: A folder, or a hub id.
        what: What the model is called in messages.
        where: The place that an error names.
    Raises:
        ConfigError: When its index names another kind of file, one that is elsewhere, or a link;
            or it is an adapter, whose weights are those of another model.
    """
    folder = Path(source) if Path(source).is_dir() else None
    if _file(source, folder, _ADAPTER) is not None:
        raise ConfigError(
            f"{what} is an adapter ({_ADAPTER}): its weights are those of another model.",
            where=where,
            hint="Merge it into its model (merge_and_unload of peft), save that, and name it.",
        )
    explicit = _read(_file(source, folder, "config.json"), what, where).get(_EXPLICIT)
    if explicit is not None:
        _check_name(explicit, what, f"{where} (config.json, {_EXPLICIT})")
    name = explicit or _INDEX
    if not name.endswith(".index.json"):
        if folder is not None:
            _check_link(folder / name, what)
        return
    if explicit is None and folder is not None and (folder / _WEIGHTS).exists():
        return  # the library reads this one, and never looks at an index
    index = _file(source, folder, name)
    named = _read(index, what, where).get("weight_map", {})
    if not isinstance(named, dict):
        raise ConfigError(
            f"{what} has an index without a map of weights.",
            where=f"{where} ({name}, weight_map)",
            hint="Save the model again with save_pretrained.",
        )
    for shard in dict.fromkeys(map(_text, named.values())):
        _check_name(shard, what, f"{where} ({name}, weight_map)", ending=".safetensors")
        if folder is not None:
            _check_link(folder / shard, what)


def _text(name: object) -> str:
    return name if isinstance(name, str) else repr(name)


def _check_name(name: object, what: str, where: str, *, ending: str | tuple[str, ...] = "") -> None:
    ending = ending or (".safetensors", ".safetensors.index.json")
    text = _text(name)
    is_plain = isinstance(name, str) and not set(name) & set("/\\\0") and name.endswith(ending)
    if not is_plain:
        raise ConfigError(
            f"{what} names {text[:_SHOWN_CHARACTERS]!r} as a file of its weights; only .safetensors"
            " files beside it are read.",
            where=where,
            hint="Save the model again with save_pretrained(safe_serialization=True), and take it "
            "from nobody you do not trust.",
        )


def _check_link(path: Path, what: str) -> None:
    """Refuse a link, but for those that the hub's own cache is made of."""
    if not path.is_symlink():
        return
    snapshots = path.parent.parent
    if snapshots.name == "snapshots" and path.resolve().parent == (
        (snapshots.parent / "blobs").resolve()
    ):
        return
    raise ConfigError(
        f"{what} has a link in the place of {path.name}, a part of its weights.",
        where=str(path),
        hint="Copy the file in place of the link.",
    )


def _file(source: str, folder: Path | None, name: str) -> Path | None:
    """Give a file of the model, brought from the hub where need be; None if it has none."""
    if folder is not None:
        return folder / name if (folder / name).exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(source, name))
    except EntryNotFoundError:  # or it is not in the cache, and there is no network
        return None


def _read(path: Path | None, what: str, where: str) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{what} could not be loaded: {path.name} is not JSON: {error}.",
            where=where,
            hint="Save the model again with save_pretrained.",
        ) from error
    return value if isinstance(value, dict) else {}
