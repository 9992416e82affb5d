"""A command loads the kinds of plugins that it asks for, and no other."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from contlearn.plugins.manager import KINDS, PluginManager

manager = PluginManager(discover=False)
heavy = {"pydantic", "numpy", "contlearn.config", "contlearn.evaluation.rules"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "replay" in manager.table("strategy")
assert "contlearn.evaluation.rules" not in sys.modules
assert all(manager.table(kind) for kind in KINDS)
"""


def test_builtin_plugins_are_imported_when_their_kind_is_asked_for():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
