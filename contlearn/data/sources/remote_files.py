"""Files behind an address that fsspec understands, and the files of a hub data set's split."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from contlearn.config import SourceConfig
from contlearn.data.sources.sql_rows import expand_variables, source_failed
from contlearn.errors import ContlearnError
from contlearn.redaction import redact
from contlearn.wording import first_line
from contlearn.workspace import narrow

__all__ = ["RemoteFile", "download", "find_files", "split_files"]

_MAX_FILES: Final = 10_000
# What changes by itself, or says nothing about the content.
_FICKLE: Final = frozenset(
    [
        "name",
        "type",
        "atime",
        "ctime",
        "created",
        "mode",
        "uid",
        "gid",
        "ino",
        "nlink",
        "islink",
        "destination",
    ]
)
# The words by which a hub knows the files of a split that is not described.
# Source: Hugging Face Hub documentation, "Structure your repository" (file names and splits).
_KEYWORDS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CONVERTED: Final = "refs/convert/parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file that can be fetched; `mark` changes when its content does.

    `mode` says who may read it, where the file system tells.
    """

    path: str
    mark: str
    size_bytes: int
    system: Any
    mode: int | None = None

    @property
    def name(self) -> str:
        """The last part of its path; of an address without what was asked with it."""
        path = self.path
        if re.match(r"https?://", path):
            path = urllib.parse.urlsplit(path).path
        return PurePosixPath(path).name

    @property
    def shown_path(self) -> str:
        """Its path as it is kept and told: an address may hold a password or a token."""
        return redact(self.path)


def find_files(source: SourceConfig, root: Path, endings: Sequence[str]) -> list[RemoteFile]:
    """List the files of a source, by name.

    Args:
        source: Of kind files or hub.
        root: What a relative path is relative to.
        endings: What the names of readable files end in.
    Raises:
        RecordError: When the place cannot be reached, or there is no such file.
    """
    try:
        if source.kind == "hub":
            return list(_hub_files(source, root, endings))
        return list(_addressed_files(source, root, endings))
    except ContlearnError:
        raise
    except Exception as error:
        # Each file system of fsspec has errors of its own.
        text = first_line(error)[:300]
        hint = "Check the address, the rights, and the network."
        if isinstance(error, ImportError):
            hint = f"Install what is missing: {text}"
        raise source_failed(source, f"{type(error).__name__}: {text}.", hint) from error


def download(source: SourceConfig, file: RemoteFile, target: Path) -> None:
    """Copy one file to this machine; nobody may read the copy who may not read the file.

    Raises:
        RecordError: When it cannot be read.
    """
    try:
        file.system.get_file(file.path, str(target))
    except Exception as error:
        text = first_line(error)[:300]
        raise source_failed(
            source,
            f"{file.name} cannot be fetched: {type(error).__name__}: {text}.",
            "It is tried again; check the address, the rights, and the network.",
        ) from error
    if file.mode is not None:
        narrow(target, file.mode)


def _addressed_files(
    source: SourceConfig, root: Path, endings: Sequence[str]
) -> Iterator[RemoteFile]:
    import fsspec

    url = expand_variables(source, source.url)
    if "://" not in url and "::" not in url:
        url = str(root / url)
    system, path = fsspec.core.url_to_fs(url, **dict(source.options))
    if any(sign in path for sign in "*?["):
        found = sorted(system.glob(path))
    elif system.isdir(path):
        found = [p for p in sorted(system.find(path)) if _is_readable(_below(p, path), endings)]
    else:
        found = [path]
    yield from _described(source, system, found)


def _described(source: SourceConfig, system: Any, paths: Sequence[str]) -> Iterator[RemoteFile]:
    if not paths:
        raise source_failed(
            source, "there is no file to read.", "Check the address; it may hold * and **."
        )
    if len(paths) > _MAX_FILES:
        raise source_failed(
            source,
            f"there are {len(paths):,} files; the limit is {_MAX_FILES:,}.",
            "Name fewer files in one source.",
        )
    for path in paths:
        info = system.info(path)
        if info.get("type") == "directory":
            continue
        known = {
            key: value
            for key, value in info.items()
            if key not in _FICKLE and isinstance(value, str | int | float)
        }
        known |= {key: str(info[key]) for key in ("LastModified", "mtime") if key in info}
        mark = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:24]
        mode = info.get("mode")
        yield RemoteFile(
            path=path,
            mark=mark,
            size_bytes=int(info.get("size") or 0),
            system=system,
            mode=stat.S_IMODE(mode) if isinstance(mode, int) else None,
        )


def _hub_files(source: SourceConfig, root: Path, endings: Sequence[str]) -> Iterator[RemoteFile]:
    import fsspec

    local = root / source.dataset
    if local.is_dir():
        system: Any = fsspec.filesystem("file")
        folder = str(local)
    else:
        system = fsspec.filesystem("hf", **dict(source.options))
        # A slash in a revision would read as a folder.
        revision = source.revision.replace("/", "%2F")
        folder = f"datasets/{source.dataset}" + (f"@{revision}" if revision else "")
    paths = {_below(path, folder): path for path in system.find(folder)}
    card = _card(system, paths.get("README.md"))
    readable = [name for name in sorted(paths) if _is_readable(name, endings)]
    chosen = split_files(source, readable, card)
    if not chosen and not local.is_dir() and not source.revision:
        # A data set without plain files: the hub keeps a copy of it as Parquet.
        folder = f"datasets/{source.dataset}@{_CONVERTED.replace('/', '%2F')}"
        part = f"{source.subset or 'default'}/{source.split}"
        paths = {_below(path, folder): path for path in system.find(f"{folder}/{part}")}
        chosen = [name for name in sorted(paths) if name.endswith(".parquet")]
    if not chosen:
        shown = ", ".join(readable[:8]) or "none"
        raise source_failed(
            source,
            f"{source.dataset!r} has no files of the split {source.split!r}"
            + (f" in {source.subset!r}" if source.subset else "")
            + f"; readable files: {shown}.",
            'Correct sources.split and sources.subset, or name the files with kind = "files".',
        )
    yield from _described(source, system, [paths[name] for name in chosen])


def _below(path: str, folder: str) -> str:
    """Give a path relative to a folder; the file systems differ in leading slashes."""
    inside, outer = path.replace("\\", "/").strip("/"), folder.replace("\\", "/").strip("/")
    found = inside.removeprefix(outer).strip("/")
    if found == inside and outer:
        # The hub's file system gives the revision that stands for a missing one.
        found = re.sub(r"^datasets/[^/]+/[^/@]+(@[^/]+)?/", "", inside)
    return found


def _is_readable(name: str, endings: Sequence[str]) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and name.lower().endswith(tuple(endings))


def _card(system: Any, path: str | None) -> Mapping[str, Any]:
    """Read the description at the head of README.md."""
    if path is None:
        return {}
    text = system.cat_file(path)[:1_000_000].decode("utf-8", errors="replace")
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if head is None or "configs" not in head[1]:
        return {}
    import yaml

    value = yaml.safe_load(head[1])
    return value if isinstance(value, dict) else {}


def split_files(source: SourceConfig, names: Sequence[str], card: Mapping[str, Any]) -> list[str]:
    """Choose the files of a split: as the data set describes them, else by their names.

    Args:
        source: Names the split and the subset.
        names: The readable files, relative to the data set.
        card: The head of its README.md.
    """
    described = _described_patterns(source, card)
    if described is not None:
        return _matching(names, described)
    inside = [n for n in names if not source.subset or source.subset in PurePosixPath(n).parts]
    words = _KEYWORDS.get(source.split, (source.split,))
    chosen = [name for name in inside if _names_split(name, words)]
    if chosen or source.split != "train":
        return chosen
    # Files that name no split at all are all for training.
    every = [word for group in _KEYWORDS.values() for word in group]
    return [] if any(_names_split(name, every) for name in inside) else inside


def _names_split(name: str, words: Iterable[str]) -> bool:
    either = "|".join(re.escape(word) for word in words)
    return re.search(rf"(?:^|[/._ -])(?:{either})(?:[/._ -]|\d|$)", name) is not None


def _described_patterns(source: SourceConfig, card: Mapping[str, Any]) -> list[str] | None:
    configs = [item for item in card.get("configs") or () if isinstance(item, dict)]
    configs = [item for item in configs if item.get("data_files")]
    if not configs:
        return None
    if source.subset:
        chosen = [item for item in configs if item.get("config_name") == source.subset]
    else:
        chosen = [
            item for item in configs if item.get("default") or item.get("config_name") == "default"
        ]
        chosen = chosen or (configs if len(configs) == 1 else [])
    if not chosen:
        subsets = ", ".join(str(item.get("config_name")) for item in configs)
        raise source_failed(
            source,
            f"the subset {source.subset!r} is not described; there are {subsets}.",
            "Set sources.subset to one of them.",
        )
    return _patterns(source, chosen[0]["data_files"], str(chosen[0].get("data_dir") or ""))


def _patterns(source: SourceConfig, files: object, folder: str) -> list[str]:
    if isinstance(files, str):
        found: list[str] = [files] if source.split == "train" else []
    elif isinstance(files, dict):
        value = files.get(source.split, [])
        found = [value] if isinstance(value, str) else list(value)
    else:
        found = []
        for item in files if isinstance(files, list) else ():
            if isinstance(item, str):
                found += [item] if source.split == "train" else []
            elif item.get("split") == source.split:
                path = item.get("path", [])
                found += [path] if isinstance(path, str) else list(path)
    return [str(PurePosixPath(folder, pattern)) for pattern in found]


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    rules = [re.compile(_as_regex(pattern)) for pattern in patterns]
    return [name for name in names if any(rule.fullmatch(name) for rule in rules)]


def _as_regex(pattern: str) -> str:
    r"""Write a pattern with * and ** as a regular expression.

    Example:
        >>> bool(re.fullmatch(_as_regex("data/**/train-*.parquet"), "data/a/b/train-0.parquet"))
        True
    """
    written = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        written += known.get(part, re.escape(part))
    return written
