"""[[sources]]: rows that are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from contlearn.config.base import Duration, Section

__all__ = ["SourceConfig"]


class SourceConfig(Section):
    """[[sources]]: rows that are fetched: files behind an address, a hub data set, a SQL query.

    `${NAME}` in `url` stands for a variable of the environment, so that no secret is in the file.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$",
        description="What the source is called, in records, logs and `contlearn ingest --source`.",
    )
    kind: Literal["files", "hub", "sql"] = Field(
        description="What is fetched: `files` behind an address, a data set of a `hub`, or the "
        "rows of a query (`sql`).",
    )
    every: Duration = Field(3600.0, description="Time between two fetches, in seconds or as 1h.")
    held_out: bool = Field(False, description="Whether its rows are only measured on.")
    url: str = Field(
        "",
        description="The address: a pattern of files on any file system that fsspec knows, or a "
        "database. ${NAME} stands for a variable of the environment.",
    )
    format: str = Field("", description="The format of the files, where names do not tell it.")
    options: Mapping[str, Any] = Field(
        {}, description="Options of the file system, as fsspec names them."
    )
    dataset: str = Field("", description="The data set on the hub, or a folder laid out like one.")
    subset: str = Field("", description="Its configuration, where it has several.")
    split: str = Field("train", description="Its part that is fetched.")
    revision: str = Field("", description="Its branch, tag or commit; empty: the newest.")
    query: str = Field(
        "", description="The SELECT whose rows are fetched; with a cursor it holds :cursor."
    )
    cursor: str = Field(
        "",
        description="The column that grows from row to row, so that only what is new is fetched; "
        "empty: everything each time.",
    )
    start: datetime | date | int | float | str | None = Field(
        None, description="The value of `cursor` before the first row."
    )
    max_rows: int = Field(1_000_000, ge=1, description="Rows that one fetch takes at most.")
    columns: Mapping[str, str] = Field(
        {}, description="Other names of columns, each with the name that `[data]` expects."
    )
    label_names: tuple[str, ...] = Field(
        (), description="The labels that the numbers 0, 1, 2 … in the label column stand for."
    )

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> SourceConfig:
        needed = {"files": ("url",), "hub": ("dataset",), "sql": ("url", "query")}[self.kind]
        for key in needed:
            if not getattr(self, key):
                raise ValueError(f"a source of kind {self.kind} needs {key}")
        foreign = {
            "files": ("dataset", "subset", "revision", "query", "cursor", "start"),
            "hub": ("url", "query", "cursor", "start"),
            "sql": ("dataset", "subset", "revision", "format", "options"),
        }[self.kind]
        for key in foreign:
            if getattr(self, key):
                raise ValueError(f"{key} does not belong to a source of kind {self.kind}")
        if self.cursor and (":cursor" not in self.query or self.start is None):
            raise ValueError(
                "a cursor needs start (the value before the first row) and :cursor in the query, "
                "such as: WHERE id > :cursor ORDER BY id"
            )
        if len(set(self.columns.values())) != len(self.columns):
            raise ValueError("columns gives two columns one name")
        return self
