"""A hub data set fetched by the real client, from a server on this machine that speaks the hub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "org/reviews"


def rows(word, number):
    lines = [{"text": f"{word} review number {n}", "label": "ab"[n % 2]} for n in range(number)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


class Hub(BaseHTTPRequestHandler):
    """The least of the hub's API that listing and reading a data set needs."""

    files: dict[str, bytes] = {}  # noqa: RUF012 - each server makes a class of its own
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def entries(self, folder=""):
        files = [
            {"type": "file", "path": name, "size": len(data), "oid": f"{hash(data) & (2**60):040x}"}
            for name, data in self.files.items()
            if name.startswith(folder)
        ]
        folders = {name.rpartition("/")[0] for name in self.files} - {""}
        return files + [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders]

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.asked.append(path)
        api = f"/api/datasets/{REPOSITORY}"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            return self.answer({"id": REPOSITORY, "sha": COMMIT, "siblings": []})
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            return self.answer(self.entries(folder))
        if path.startswith(f"/datasets/{REPOSITORY}/resolve/"):
            name = path.removeprefix(f"/datasets/{REPOSITORY}/resolve/").partition("/")[2]
            if name in self.files:
                return self.answer(self.files[name])
        return self.answer({"error": "not here"}, 404)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Content-Type"].startswith("application/json"):
            wanted = json.loads(body)["paths"]
        else:
            wanted = urllib.parse.parse_qs(body).get("paths", [])
        self.answer([entry for entry in self.entries() if entry["path"] in wanted])


@contextmanager
def serving(files) -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OneHub", (Hub,), {"files": files, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ingest(root, endpoint, tmp_path):
    """Run the program in a process that may reach its hub."""
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "contlearn", "--workspace", str(root)]
    command += ["ingest", "--source", "reviews", "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return json.loads(done.stdout)


@pytest.fixture
def root(tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "contlearn.toml").write_text(
        '[data]\nnear_duplicates = false\n[[sources]]\nname = "reviews"\nkind = "hub"\n'
        f'dataset = "{REPOSITORY}"\nsplit = "train"\n'
    )
    return folder


@pytest.mark.slow
def test_split_of_a_hub_data_set_is_fetched_once_and_what_changed_again(root, tmp_path):
    files = {
        "README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n"
        b"  - split: train\n    path: parts/a-*.jsonl\n---\n# Reviews\n",
        "parts/a-1.jsonl": rows("first", 6),
        "parts/a-2.jsonl": rows("second", 4),
        "parts/b-1.jsonl": rows("other", 3),
    }
    with serving(files) as (endpoint, hub):
        first = ingest(root, endpoint, tmp_path)
        assert (first["accepted"], [f["path"] for f in first["files"]]) == (
            10,
            ["reviews:a-1.jsonl", "reviews:a-2.jsonl"],
        )
        assert not any("b-1" in path for path in hub.asked)
        assert ingest(root, endpoint, tmp_path)["files"] == []
        files["parts/a-2.jsonl"] += rows("third", 2)
        again = ingest(root, endpoint, tmp_path)
        assert (again["accepted"], again["duplicates"]) == (2, 4)


def test_hub_without_the_data_set_is_explained(root, tmp_path):
    with serving({}) as (endpoint, _):
        config = root / "contlearn.toml"
        config.write_text(config.read_text().replace(REPOSITORY, "org/nothing"))
        (file,) = ingest(root, endpoint, tmp_path)["files"]
    assert (file["verdict"], file["reason"]) == ("reject", "source-failed")
    assert "org/nothing" in file["message"]
