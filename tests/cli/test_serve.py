"""`contlearn serve` where it cannot begin."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules[{name!r}] = None  # as if it were not there
from contlearn.cli import main
main(["--workspace", sys.argv[1], "serve", "--port", "0"])
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("uvicorn", 2, "Install it with `pip install 'contlearn[serve]'`."),
        ("contlearn.serving.http.server", 1, "This is a bug in contlearn."),
    ],
)
def test_serve_tells_a_missing_package_from_a_broken_module(workspace, name, code, said):
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(name=name), str(workspace.root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
    assert ("Traceback" in ran.stderr) == (code == 1)
