"""Sources of the configuration: what is due is fetched, taken in, and remembered.

What was fetched goes the way of every file: archive, checks, segment, commit. Only then is the
place to go on from remembered, so that a kill in between fetches the same rows once more, and they
are known.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contlearn.catalog import Catalog
from contlearn.catalog.rows import get, put
from contlearn.catalog.schema import triggers
from contlearn.config import Config, SourceConfig
from contlearn.data.formats.reading import find_parser
from contlearn.data.formats.streams import COMPRESSIONS
from contlearn.data.intake.report import FileReport
from contlearn.data.sources.mapped import MappedRows
from contlearn.errors import ContlearnError, PluginError, RecordError, UsageError
from contlearn.interfaces import Clock, RecordParser
from contlearn.redaction import redact, redact_value

if TYPE_CHECKING:
    from contlearn.data.intake.run import IntakeRun

__all__ = ["chosen_sources", "due_sources", "take_source"]


def chosen_sources(config: Config, names: Sequence[str]) -> list[SourceConfig]:
    """Give the sources of these names.

    Raises:
        UsageError: When one is not configured.
    """
    known = {source.name: source for source in config.sources}
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(
            f"There is no source {missing[0]!r}.",
            where="--source",
            hint=f"Known: {', '.join(known)}." if known else "Add [[sources]] to contlearn.toml.",
        )
    return [known[name] for name in dict.fromkeys(names)]


def due_sources(config: Config, catalog: Catalog, clock: Clock) -> list[SourceConfig]:
    """Give the sources whose time has come."""
    due = []
    for source in config.sources:
        last, _ = _read(catalog, source)
        if last is None or clock.now() - last >= timedelta(seconds=source.every):
            due.append(source)
    return due


def take_source(
    run: IntakeRun, source: SourceConfig, *, now: datetime, again: bool = False
) -> None:
    """Fetch a source and take in what is new; where nothing could be, a report says why.

    Args:
        run: The run of taking files in.
        source: Which.
        now: When this is.
        again: Fetch from the start, whatever was fetched before.
    """
    _, before = _read(run.catalog, source)
    state = {} if again else dict(before)
    state.pop("error", None)
    try:
        with tempfile.TemporaryDirectory(dir=run.staging) as folder:
            if source.kind == "sql":
                _take_query(run, source, state, Path(folder))
            else:
                for _ in _take_files(run, source, state, Path(folder)):
                    # One file is in for good: a later failure does not fetch it once more.
                    _note(run, source, now, state)
    except (RecordError, PluginError) as error:
        _tell_failed(run, source, error)
        state["error"] = error.what
    _note(run, source, now, state)


def _take_query(run: IntakeRun, source: SourceConfig, state: dict[str, Any], folder: Path) -> None:
    from contlearn.data.sources.sql_rows import fetch_query

    # Without the password: another one asks the same, and nobody finds it out from the hash.
    asked, asked_before = (
        _hash([url, source.query, source.cursor, str(source.start)])
        for url in (redact(source.url), source.url)
    )
    last = state.get("cursor") if state.get("asked") in (asked, asked_before) else None
    path = folder / f"{source.name}.jsonl"
    rows, cursor = fetch_query(source, last, run.root, path)
    if rows:
        _take(run, source, path)
    state |= {"asked": asked, "cursor": cursor}


def _take_files(
    run: IntakeRun, source: SourceConfig, state: dict[str, Any], folder: Path
) -> Iterator[None]:
    """Take in what is new, and say after each file that it is settled."""
    from contlearn.data.formats.streams import refuse_file
    from contlearn.data.sources.remote_files import download, find_files

    table = run.manager.table("parser").values()
    suffixes = [suffix for item in table for suffix in item.implementation.suffixes]
    endings = [suffix + packed for suffix in suffixes for packed in ("", *COMPRESSIONS)]
    found = find_files(source, run.root, endings)
    # Under other settings the same file may be read otherwise.
    settings = source.model_dump(mode="json", exclude={"every"})
    reading, reading_before = (
        _hash([run.settings, value]) for value in (redact_value(settings, ("sources",)), settings)
    )
    before: dict[str, str] = state.get("seen", {})
    seen = {file.shown_path: before.get(file.shown_path) or before.get(file.path) for file in found}
    state["seen"] = {path: mark for path, mark in seen.items() if mark}
    for number, file in enumerate(found):
        mark = f"{file.mark} {reading}"
        if seen.get(file.shown_path) in (mark, f"{file.mark} {reading_before}"):
            state["seen"][file.shown_path] = mark
            continue
        # A folder of its own: two files may have one name.
        place = folder / str(number)
        place.mkdir()
        path = place / file.name
        limit = run.config.data.limits.unpacked_bytes
        if file.size_bytes > limit:
            error = refuse_file(
                "too-long",
                f"{file.name} has {file.size_bytes:,} bytes.",
                "Split it, or raise data.limits.unpacked_bytes in contlearn.toml.",
            )
            _tell_failed(run, source, error)
        else:
            download(source, file, path)
            _take(run, source, path)
            path.unlink()
        state["seen"][file.shown_path] = mark
        yield


def _take(run: IntakeRun, source: SourceConfig, path: Path) -> None:
    held_out = source.held_out or run.is_held_out(path.name)
    reading = ""
    try:
        parser: RecordParser = find_parser(
            run.manager, path.name, source.format or None, columns=run.config.data.columns
        )
    except RecordError as error:
        _tell_failed(run, source, error, path.name)
        return
    if source.columns or source.label_names:
        data = run.config.data
        mapped = MappedRows(
            parser,
            columns=source.columns,
            label_names=source.label_names,
            label_fields=(data.label, data.tags),
        )
        parser, reading = mapped, mapped.reading()
    report = run.take(
        path, held_out=held_out, place=(0, 1), in_inbox=True, parser=parser, reading=reading
    )
    report.path = f"{source.name}:{report.path}"


def _tell_failed(
    run: IntakeRun, source: SourceConfig, error: ContlearnError, name: str = ""
) -> None:
    report = FileReport(
        path=f"{source.name}:{name}" if name else source.name,
        verdict="reject",
        reason=error.where,
        message=error.what,
        hint=error.hint,
    )
    report.problems.add(error.where or "", error.what, hint=error.hint or "")
    run.reports.append(report)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _key(source: SourceConfig) -> str:
    return f"source {source.name}"


def _read(catalog: Catalog, source: SourceConfig) -> tuple[datetime | None, dict[str, Any]]:
    with catalog.read() as connection:
        row = get(connection, triggers, _key(source))
    if row is None:
        return None, {}
    return datetime.fromisoformat(row.fired_at), dict(row.detail or {})


def _note(run: IntakeRun, source: SourceConfig, now: datetime, state: dict[str, Any]) -> None:
    """Remember what was taken in; a dry run remembers nothing."""
    if run.dry_run:
        return
    values = {"name": _key(source), "fired_at": now.isoformat(), "detail": state}
    with run.catalog.write() as connection:
        put(connection, triggers, values)
