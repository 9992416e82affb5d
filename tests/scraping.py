"""A real Prometheus with our configuration and rules, scraping a daemon and a server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.served import wait_for

__all__ = ["DASHBOARDS", "DEPLOY", "prometheus", "queries_of"]

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
Query = Callable[[str], list[dict[str, Any]]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def prometheus(folder: Path, *, daemon: str, server: str) -> Iterator[Query]:
    """Run it until the block ends; both targets are up when it begins.

    Args:
        folder: Its own, for configuration and data.
        daemon: HOST:PORT of the daemon.
        server: HOST:PORT of the server.
    Yields:
        What asks it: an expression to its series.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs prometheus (Debian package prometheus)")
    folder.mkdir(parents=True, exist_ok=True)
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    for ours, theirs in (
        ("15s", "1s"),
        ("rules/*.yml", f"{DEPLOY}/prometheus/rules/*.yml"),
        ("127.0.0.1:9108", daemon),
        ("127.0.0.1:8080", server),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    port = _free_port()
    process = subprocess.Popen(
        [
            program, f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as api:

            def query(expression: str) -> list[dict[str, Any]]:
                answer = api.get("/query", params={"query": expression}).json()
                assert answer["status"] == "success", (expression, answer)
                result: list[dict[str, Any]] = answer["data"]["result"]
                return result

            def is_up() -> bool:
                try:
                    return len([s for s in query("up") if s["value"][1] == "1"]) == 2
                except (httpx.TransportError, KeyError, ValueError):
                    return False

            wait_for(is_up, 120)
            yield query
    finally:
        process.terminate()
        process.wait(20)


def queries_of(dashboard: dict[str, Any], model: str) -> list[tuple[str, str]]:
    """Give the title of each panel with each of its queries, variables filled in as Grafana does."""
    return [
        (str(panel["title"]), str(target["expr"]).replace("$model", model))
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
