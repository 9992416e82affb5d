"""Writes docs/configuration.md from the models: python -m tests.docs.configuration."""

from __future__ import annotations

from pathlib import Path

from contlearn.config.keys import Part, parts

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def page() -> str:
    lines = [
        "# Configuration",
        "",
        "Every key of contlearn.toml. `contlearn config explain KEY` prints the same for one key or",
        "section, `contlearn config schema` all of it as JSON Schema, `contlearn config show` the values",
        "in force and where each comes from. A flag beats a variable (`CONTLEARN_<SECTION>__<KEY>`),",
        "which beats the file.",
        "",
    ]
    for part in parts():
        lines += section(part)
    return "\n".join(lines)


def section(part: Part) -> list[str]:
    name = f"[[{part.name}]]" if part.repeats else f"[{part.name}]"
    lines = [f"## {name}", "", part.summary[0].upper() + part.summary[1:], ""]
    lines += ["| key | default | what it does |", "| --- | --- | --- |"]
    for key in part.keys:
        default = "required" if key.default is None else f"`{key.default}`"
        says = f"{key.description} {_sentence(key.type, key.bounds)}".replace("|", "\\|")
        lines.append(f"| `{key.path.rpartition('.')[2]}` | {default} | {says} |")
    return [*lines, ""]


def _sentence(kind: str, bounds: str) -> str:
    text = ", ".join(one for one in (kind, bounds) if one)
    return f"*{text[0].upper()}{text[1:]}.*"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
