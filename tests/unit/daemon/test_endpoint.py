"""The daemon's pages: under which names they are answered, and what an error says."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest

from contlearn.config import Config
from contlearn.daemon.endpoint import start_endpoint
from contlearn.errors import StorageError


def _broken(_headers):
    raise StorageError(
        "It is damaged.", where="/srv/hidden/ws/state/catalog.sqlite", hint="Run it."
    )


def _bug(_headers):
    raise RuntimeError("/srv/hidden/ws")


ROUTES = {
    "/metrics": lambda _headers: (200, "text/plain", b"1"),
    "/broken": _broken,
    "/bug": _bug,
}


@pytest.fixture(scope="module")
def client():
    config = Config.model_validate(
        {"monitoring": {"port": 0}, "serving": {"allowed_hosts": ["ops.example"]}}
    )
    with (
        start_endpoint(SimpleNamespace(config=config), ROUTES) as address,
        httpx.Client(base_url=address, timeout=20) as made,
    ):
        yield made


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9108", 200),
        ("daemon:9108", 200),
        ("ops.example", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("a b", 400),
    ],
)
def test_pages_are_answered_under_the_machine_s_own_names(client, host, status):
    answer = client.get("/metrics", headers={"host": host})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["where"] == "header host"


def test_an_error_says_what_happened_and_not_where_things_lie(client):
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert (answer.json()["error"], answer.json()["where"]) == ("It is damaged.", "catalog.sqlite")
    assert client.get("/bug").json()["error"] == "RuntimeError"
    assert "hidden" not in client.get("/bug").text + answer.text
