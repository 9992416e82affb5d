"""[storage]: where the catalog is."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["StorageConfig"]


class StorageConfig(Section):
    """[storage]: where the catalog is."""

    catalog: str = Field(
        "sqlite:///state/catalog.sqlite",
        description="The database of records, cycles and leases, as an SQLAlchemy URL; a path is "
        "taken from the workspace. For PostgreSQL postgresql+psycopg://USER@HOST/NAME.",
    )
