"""The documentation names what there is: commands, hooks, settings, event kinds."""

from __future__ import annotations

import inspect
from pathlib import Path

from contlearn.cli import COMMANDS
from contlearn.plugins import hookspecs
from tests.docs.configuration import PAGE, page

ROOT = Path(__file__).parents[2]


def test_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`{name}" in text or f"contlearn {name}" in text, name


def test_plugin_page_names_every_hook_and_event():
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    hooks = [
        n
        for n, _ in inspect.getmembers(hookspecs, inspect.isfunction)
        if n.startswith("contlearn_")
    ]
    assert len(hooks) >= 9
    for name in (*hooks, *hookspecs.EVENT_KINDS):
        assert f"`{name}" in text, name


def test_example_of_the_plugin_page_works(tmp_path):
    from contlearn.config import GateConfig
    from contlearn.plugins.manager import PluginManager
    from contlearn.testing import check_class

    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    (tmp_path / "rules.py").write_text(text.partition("```python\n")[2].partition("```")[0])
    manager = PluginManager(discover=False, folder=tmp_path)
    assert manager.failures == []
    rule, options = manager.options("gate rule", "few-labels", {"at_most": 2}, where="x")
    assert check_class("gate rule", rule) == []

    class Evidence:
        labels = ("a", "b", "c")
        config = GateConfig()

    (outcome,) = rule(options).judge(Evidence())
    assert (outcome.passed, outcome.measured, outcome.required) == (False, 3.0, 2.0)


def test_configuration_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs.configuration"


def test_measured_part_of_the_gate_page_is_up_to_date():
    from tests.docs import gate

    text = gate.PAGE.read_text(encoding="utf-8")
    assert text == gate.page(text), "run: python -m tests.docs.gate"


def test_gate_page_names_every_rule_and_its_options():
    from contlearn.plugins.manager import PluginManager

    text = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    for item in PluginManager(discover=False).table("gate rule").values():
        (line,) = [one for one in text.splitlines() if one.startswith(f"| `{item.name}` |")]
        for option in item.implementation.Options.model_fields:
            assert f"`{option}`" in line, (item.name, option)


def test_repository_has_no_machine_paths():
    import subprocess

    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        path = ROOT / name
        if path.suffix in (".png", ".ico") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for word in ("/".join(["", "work", ""]), "/".join(["", "root", ""])):
            assert word not in text, f"{name} names {word}"
