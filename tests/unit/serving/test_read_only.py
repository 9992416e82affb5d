"""A server whose workspace cannot be written."""

from __future__ import annotations

import json
import sys
import urllib.request

import pytest

from contlearn.context import Context
from contlearn.errors import StorageError
from contlearn.serving.settings import settings_from_config
from tests.served import make_workspace, point_to, running, wait_for, write_version

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs a folder that root cannot write in either"
)


def ask(server):
    request = urllib.request.Request(
        f"{server.address}/predict",
        data=json.dumps({"texts": ["invoice refund"]}).encode(),
        headers={"Content-Type": "application/json", "X-Request-ID": "mine"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["version"]


@pytest.fixture
def read_only(tmp_path):
    """A workspace whose state nobody can write, and has never been."""
    workspace = make_workspace(tmp_path / "ws")
    serving = workspace.root / "serving" / "tickets"
    write_version(serving, 1)
    point_to(serving, 1, 1)
    for folder in sorted(workspace.state.rglob("*"), reverse=True):
        folder.rmdir()
    workspace.state.rmdir()
    workspace.state.symlink_to("/sys/kernel")
    return workspace


def test_server_answers_where_nothing_can_be_written_and_says_what_cannot(read_only, caplog):
    with Context.open(read_only.root) as context:
        settings = settings_from_config(read_only, context.config, context.manager)
        with running(settings) as server:
            service = wait_for(lambda: server.site.is_ready and server.site.first)
            assert [ask(server), ask(server)] == [1, 1]
            service.settings.log.flush()
            assert [ask(server), ask(server)] == [1, 1]
            service.settings.log.flush()
    for once in (
        "No permission to create the folders of the workspace",
        "prediction log failed",
        "no lease",
    ):
        assert caplog.text.count(once) == 1, once


def test_what_must_be_written_is_an_error_that_says_where(read_only):
    with (
        Context.open(read_only.root) as context,
        pytest.raises(StorageError, match="catalog cannot be opened|No permission"),
    ):
        context.catalog  # noqa: B018 # it is opened when it is first asked for
