"""Writes docs/configuration.md from the models: python -m tests.docs.configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from contlearn.config import Config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def page() -> str:
    lines = [
        "# Configuration",
        "",
        "Every key of contlearn.toml with its default. `contlearn config schema` prints types and",
        "bounds, `contlearn config show` the values in force and where each comes from. A flag beats",
        "a variable (`CONTLEARN_<SECTION>__<KEY>`), which beats the file.",
        "",
    ]
    for name, field in Config.model_fields.items():
        many = get_args(field.annotation)
        lines += section(f"[{name}]", many[0]) if many else section(name, field.annotation)
    return "\n".join(lines)


def section(name: str, model: Any) -> list[str]:
    says = model.__doc__.partition(": ")[2].splitlines()[0]
    lines = [f"## [{name}]", "", says[0].upper() + says[1:], ""]
    lines += ["| key | default |", "| --- | --- |"]
    nested = []
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append((f"{name}.{key}", field.annotation))
            continue
        if field.is_required():
            lines.append(f"| `{key}` | required |")
            continue
        default = field.get_default()
        shown = json.dumps(default, default=lambda v: dict(v) if hasattr(v, "keys") else list(v))
        lines.append(f"| `{key}` | `{shown}` |")
    lines.append("")
    for inner, annotation in nested:
        lines += section(inner, annotation)
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
