"""Every key of the configuration as a value: its path, type, default, bounds and description."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from contlearn.config.base import parse_duration, parse_size
from contlearn.config.whole import Config
from contlearn.errors import ConfigError

__all__ = ["Key", "Part", "all_keys", "explain", "keys_of", "parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key: where it stands and what it does.

    `path` is the way to it, "training.epochs"; `default` is its value as JSON, None where one must
    be given; `type` says in words what may be written.
    """

    path: str
    type: str
    default: str | None
    bounds: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A section: its name, whether it may come several times, what it is for, and its keys."""

    name: str
    repeats: bool
    summary: str
    keys: tuple[Key, ...]


def parts() -> Iterator[Part]:
    """Give each section of the configuration, an inner one after the one that it belongs to."""
    for name, info in Config.model_fields.items():
        yield from _part(name, *_section_of(info))


def all_keys() -> Iterator[Key]:
    """Give every key, in the order of the sections."""
    for part in parts():
        yield from part.keys


def keys_of(parents: Sequence[str]) -> list[str]:
    """Name the keys that a section has; none where there is no such section.

    Args:
        parents: The way to it, positions in lists included: ["sources", "0"].
    """
    model: type[BaseModel] = Config
    for part in parents:
        if part.isdigit():
            continue
        info = model.model_fields.get(part)
        inner = None if info is None else _section_of(info)[0]
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _part(name: str, model: type[BaseModel] | None, repeats: bool) -> Iterator[Part]:
    if model is None:
        return
    keys: list[Key] = []
    inner: list[tuple[str, type[BaseModel], bool]] = []
    for key, info in model.model_fields.items():
        below, many = _section_of(info)
        if below is not None:
            inner.append((f"{name}.{key}", below, many))
            continue
        keys.append(
            Key(
                path=f"{name}.{key}",
                type=_words(_plain(info)),
                default=None if info.is_required() else _json(info.get_default()),
                bounds=_bounds(info),
                description=info.description or "",
            )
        )
    says = (model.__doc__ or "").partition("]: ")[2].splitlines()[0]
    yield Part(name=name, repeats=repeats, summary=says, keys=tuple(keys))
    for below_name, below, many in inner:
        yield from _part(below_name, below, many)


def _section_of(info: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """Give the model of a field that is a section, and whether it is a list of them."""
    annotation, many = info.annotation, False
    if get_origin(annotation) is tuple:
        annotation, many = get_args(annotation)[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, many
    return None, False


def _plain(info: FieldInfo) -> Any:
    """Give a field's type, with what marks durations and sizes put back."""
    marks = [getattr(item, "func", None) for item in info.metadata]
    if parse_duration in marks:
        return "duration"
    return "size" if parse_size in marks else info.annotation


def _words(annotation: Any) -> str:
    """Say in words what may be written.

    Example:
        >>> _words(tuple[str, ...]), _words(Literal["a", "b"] | int)
        ('list of text', '"a" or "b" or whole number')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return " or ".join(json.dumps(choice) for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one) for one in inner if one is not type(None)))
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if annotation is Any or origin in (dict, Mapping) or _is_mapping(origin):
        return "table" if annotation is not Any else "any value"
    if isinstance(annotation, str):
        return {"duration": "seconds, or 90s, 5m, 1h, 7d", "size": "bytes, or 500MB, 2GB"}[
            annotation
        ]
    names = {str: "text", bool: "true or false", int: "whole number", float: "number"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _bounds(info: FieldInfo) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = []
    for item in info.metadata:
        for name, says in signs.items():
            limit = getattr(item, name, None)
            if limit is not None:
                found.append(f"{says} {limit:g}")
        most = getattr(item, "max_length", None)
        if most is not None:
            found.append(f"at most {most} of them")
    return ", ".join(found)


def _json(value: Any) -> str:
    def plain(item: Any) -> Any:
        return dict(item) if isinstance(item, Mapping) else list(item)

    return json.dumps(value, default=plain, ensure_ascii=False)


def explain(name: str) -> tuple[Part, tuple[Key, ...]]:
    """Find what a name means: a key by its path, or a section with all its keys.

    Args:
        name: "training.epochs", "training", "[training]", or a key's last part where only one
            section has it.
    Raises:
        ConfigError: When there is none of that name; it names near ones.
    """
    wanted = name.strip().strip("[]").strip(".")
    known = list(parts())
    for part in known:
        if part.name == wanted:
            return part, part.keys
    found = [(part, key) for part in known for key in part.keys if key.path == wanted]
    found = found or [
        (part, key) for part in known for key in part.keys if key.path.endswith(f".{wanted}")
    ]
    if len(found) == 1:
        return found[0][0], (found[0][1],)
    names = [key.path for _, key in found]
    if not names:
        every = [part.name for part in known] + [key.path for key in all_keys()]
        lasts = {path.rpartition(".")[2]: path for path in every}
        near = difflib.get_close_matches(wanted, [*every, *lasts], n=3, cutoff=0.6)
        names = list(dict.fromkeys(lasts.get(one, one) for one in near))
    raise ConfigError(
        f"There is no key {name!r}." if not found else f"Several sections have a key {name!r}.",
        where="contlearn config explain",
        hint=f"Is it one of these? {', '.join(names)}."
        if names
        else "`contlearn config explain` without a name lists the sections.",
    )
