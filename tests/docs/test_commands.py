"""Every command line that the documentation shows is one: its commands, options and arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from contlearn.cli import cli as program

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / "deploy").rglob("*.md"),
]
# A line of code that begins with it, or a span between backticks; line breaks are blanks.
_SPANS = re.compile(r"`([^`]+)`", re.DOTALL)
_BLOCKS = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)


def shown(page: Path) -> list[str]:
    """Give the command lines of a page, without what stands behind them."""
    text = page.read_text(encoding="utf-8")
    blocks = [line for block in _BLOCKS.findall(text) for line in block.splitlines()]
    spans = [" ".join(span.split()) for span in _SPANS.findall(_BLOCKS.sub("", text))]
    lines = [line.partition("  #")[0].strip() for line in blocks] + spans
    return list(dict.fromkeys(line for line in lines if re.match(r"contlearn( |$)", line)))


def words_of(line: str) -> list[str]:
    """Split a line; brackets of what may be left out, and alternatives, are taken away."""
    return shlex.split(re.sub(r"[\[\]…]", " ", line))[1:]


def problems(line: str) -> list[str]:
    """Say what in a command line the program does not know."""
    # With the program's own settings: click remembers a command's help option from the first use.
    context = click.Context(program, info_name="contlearn", **program.context_settings)
    command: click.Command = program
    words, found = words_of(line), []
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            name, _, value = word.partition("=")
            known = {
                opt: parameter
                for parameter in (*command.get_params(context), *program.params)
                for opt in (*parameter.opts, *parameter.secondary_opts)
            }
            if name not in known:
                found.append(f"{' '.join(line.split())}: no option {name}")
                continue
            option = known[name]
            if not (isinstance(option, click.Option) and (option.is_flag or option.count or value)):
                words[:1] = []
        elif isinstance(command, click.Group):
            names = word.split("/") if "/" in word else [word]
            inner = [command.get_command(context, name) for name in names]
            if None in inner:
                found.append(f"{' '.join(line.split())}: no command {word}")
                break
            command = inner[0]
            context = click.Context(command, info_name=word, parent=context)
        elif not any(isinstance(p, click.Argument) for p in command.get_params(context)):
            found.append(f"{' '.join(line.split())}: takes no {word!r}")
    if isinstance(command, click.Group) and not (command is program or found):
        found.append(f"{' '.join(line.split())}: does nothing without one of its commands")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_that_a_page_shows_are_there(page):
    assert [problem for line in shown(page) for problem in problems(line)] == []


def test_pages_show_commands():
    assert sum(len(shown(page)) for page in PAGES) > 60
    assert problems("contlearn history --rules") != []
    assert problems("contlearn data archive") != []
    assert problems("contlearn data") != []
    assert problems("contlearn status VERSION") != []
