"""The plugin manager: hooks, discovery, and what the built-ins register through it."""

from __future__ import annotations

from contlearn.plugins.hookspecs import hookimpl

__all__ = ["hookimpl"]
