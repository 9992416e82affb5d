"""[plugins]: which plugins must be there, which must not be loaded."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["PluginsConfig"]


class PluginsConfig(Section):
    """[plugins]: which plugins must be there, which must not be loaded."""

    required: tuple[str, ...] = Field(
        (), description="Plugins, by name, that must load; where one does not, nothing runs."
    )
    blocked: tuple[str, ...] = Field((), description="Plugins, by name, that are never loaded.")
