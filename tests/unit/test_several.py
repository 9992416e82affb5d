"""One text where a list of them belongs is refused: its letters would be taken one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

import contlearn
from contlearn.client import AsyncClient, Client
from contlearn.context import Context
from contlearn.errors import UsageError
from contlearn.inference.attribution import explain_inputs
from contlearn.operations.records import hold, release
from contlearn.testing import write_tiny_model


@pytest.fixture
def context(workspace):
    with Context.open(workspace.root) as opened:
        yield opened


@pytest.mark.parametrize("given", ["hey", b"hey", {"text": "hey"}, Path("hey")])
def test_one_value_where_several_belong_is_refused(context, tmp_path, given):
    calls = {
        "predict_texts": lambda: contlearn.predict_texts(context, given),
        "ingest_files": lambda: contlearn.ingest_files(context, given),
        "sources": lambda: contlearn.ingest_files(context, sources=given),
        "explain_inputs": lambda: explain_inputs(None, given),
        "hold": lambda: hold(context, given, reason="a test"),
        "release": lambda: release(context, given, reason="a test"),
        "write_tiny_model": lambda: write_tiny_model(tmp_path / "base", words=given),
    }
    for name, call in calls.items():
        with pytest.raises(UsageError) as caught:
            call()
        assert "where a list of them belongs" in caught.value.what, name
        assert caught.value.hint == "Put it into a list: [value]."
    assert not (tmp_path / "base").exists()


def test_clients_refuse_one_text_before_anything_is_sent():
    def never(_request):
        raise AssertionError("something was sent")

    import asyncio

    import httpx

    transport = httpx.MockTransport(never)
    with Client("http://127.0.0.1:1", transport=transport) as client:
        for call in (client.predict, client.predict_many):
            with pytest.raises(UsageError, match="One text was given"):
                call("hey")

    async def ask():
        client = AsyncClient("http://127.0.0.1:1", transport=transport)
        try:
            await client.predict("hey")
        finally:
            await client.close()

    with pytest.raises(UsageError, match="One text was given"):
        asyncio.run(ask())
