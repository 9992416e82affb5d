"""The catalog: what is known about files, records, cycles and leases, behind SQLAlchemy."""

from __future__ import annotations

from contlearn.catalog.database import Catalog

__all__ = ["Catalog"]
