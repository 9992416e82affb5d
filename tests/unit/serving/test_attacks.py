"""What hostile clients send, each with the answer it gets: heads, origins, tokens, ids, paths.

What is hostile in files has its own rooms: weights in modeling/test_weights.py, manifests in
papers/test_reading.py, patterns in evaluation/test_text_slices.py.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib

import httpx
import pytest

from tests.served import (
    make_workspace,
    point_to,
    running,
    settings_of,
    wait_for,
    whole_lines,
    write_version,
)

TOKEN = "s3cret-" * 4
ASKED = {"texts": ["where is my parcel"]}
BODY = json.dumps(ASKED).encode()


def serve(root, extra=""):
    """A workspace with one version, whose folder's name is searched for in every answer."""
    workspace = make_workspace(root, extra=extra)
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    return workspace


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("hidden place") / "ws"
    root.mkdir()
    (root / "tokens").write_text(f"feedback {TOKEN}\n")
    workspace = serve(root, 'tokens_file = "tokens"\n')
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        yield server, workspace


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served[0].address, timeout=20) as made:
        yield made


def raw(server, data):
    """Send bytes as they are, and give status and body of the one answer."""
    with socket.create_connection(server.listener.getsockname()[:2], timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1").lower(), body


def post(*lines, body=BODY, path="/predict"):
    head = [f"POST {path} HTTP/1.1", *lines, f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        # The server's own: addresses, names without a dot, names that nobody outside can give.
        ("127.0.0.1:8080", 200),
        ("10.42.0.17", 200),
        ("[::1]:8080", 200),
        ("[fe80::1]", 200),
        ("localhost", 200),
        ("LocalHost:80", 200),
        ("localhost.", 200),
        ("contlearn:8080", 200),
        ("contlearn.models.svc", 200),
        ("contlearn.models.svc.cluster.local:80", 200),
        ("host.docker.internal", 200),
        # A name that points here, and is not the server's.
        ("evil.example", 400),
        ("evil.example:8080", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example", 400),
        ("evil.example#localhost", 400),
        ("evil.local", 400),
        ("svc", 200),
        ("evilsvc.example", 400),
        # No host at all.
        ("", 400),
        ("a b", 400),
        ("localhost/../", 400),
        ("user@localhost", 400),
        ("localhost, evil.example", 400),
        ("[::1", 400),
        ("\u00e9vil", 400),
        ("a" * 5000 + ".example", 400),
    ],
)
def test_host(served, host, status):
    found, _, body = raw(served[0], post(f"host: {host}"))
    assert found == status
    if status == 400:
        assert json.loads(body)["where"] == "header host"


def test_two_hosts_are_none_and_a_program_of_http_1_0_may_leave_it_out(served):
    two = raw(served[0], post("host: localhost", "host: evil.example"))
    assert (two[0], json.loads(two[2])["where"]) == (400, "header host")
    assert raw(served[0], post())[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:1"}, 200),
        ({"origin": "http://LOCALHOST:1"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:2"}, 403),
        ({"origin": "http://localhost:1.evil.example"}, 403),
        ({"origin": "localhost:1"}, 403),
        ({"origin": "x" * 5000}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
        # Behind a proxy that asks for another host, the browser's own word is what there is.
        ({"origin": "https://api.example", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_origin_of_what_would_be_logged(client, served, headers, status):
    answer = client.post("/predict", json=ASKED, headers={"host": "localhost:1", **headers})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["where"] == "header origin"
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_elsewhere_leaves_nothing_in_log_and_inbox(client, served):
    workspace = served[1]
    mark = "from-elsewhere"
    for path in ("/predict", "/v2/models/tickets/infer", "/v1/models/tickets:predict", "/feedback"):
        answer = client.post(
            path,
            content=BODY,
            headers={
                "origin": "https://evil.example",
                "content-type": "text/plain",  # what a page may send without asking first
                "x-request-id": mark,
                "authorization": f"Bearer {TOKEN}",
            },
        )
        assert answer.status_code == 403
    client.post("/predict", json=ASKED, headers={"x-request-id": "after"})
    wait_for(lambda: any(r["request_id"] == "after" for r in whole_lines(workspace.predictions)))
    assert not [r for r in whole_lines(workspace.predictions) if r["request_id"] == mark]
    assert not list(workspace.inbox.iterdir())


def test_a_page_of_elsewhere_may_look_but_not_read(client):
    answer = client.get("/status", headers={"origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    asking = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert client.options("/predict", headers=asking).status_code == 405


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN.upper()}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer " + "x" * 20_000, 401),
        ("Bearer \u00ff\u00fe", 401),
        (f"bearer {TOKEN}", 400),  # let in; the body is no label
    ],
)
def test_token(client, given, status):
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    answer = client.post("/feedback", content=b"{}", headers=headers)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/models/tickets/roles", "/v2/repository/models/tickets/load"])
def test_what_nobody_has_a_token_for_is_not_there(client, path):
    assert client.post(path, json={}).status_code == 404


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("mine-1", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("clr-" + "0" * 32, False),  # the form of the server's own
        ("two words", False),
        ("../../etc/passwd", False),
        ("a\tb", False),
        ("\u00ff", False),
        ("<script>", False),
        ("", False),
    ],
)
def test_request_id(client, given, is_kept):
    answer = client.post("/predict", json=ASKED, headers={"x-request-id": given.encode("latin-1")})
    named = answer.headers["x-request-id"]
    assert (answer.status_code, named == answer.json()["request_id"]) == (200, True)
    assert (named == given) == is_kept
    if not is_kept:
        assert re.fullmatch(r"clr-[0-9a-f]{32}", named)


def test_request_id_of_another_is_not_taken_over(client):
    ids = [
        client.post("/predict", json=ASKED, headers={"x-request-id": "once"}).json()["request_id"]
        for _ in range(2)
    ]
    assert ids[0] == "once"
    assert ids[1].startswith("clr-")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict/", 200),
        ("//evil.example/predict", 404),
        ("//evil.example/", 404),
        ("/predict//", 404),
        ("/../predict", 404),
        ("/predict/../status", 404),
        ("/%2e%2e/predict", 404),
        ("/models/..%2f..%2fetc/predict", 404),
        ("/models/%00/predict", 404),
        ("/v2/models/tickets/versions/-1/infer", 404),
        ("/v2/models/tickets/versions/" + "9" * 400 + "/infer", 404),
        ("/v2/models/tickets/versions/\u0661/infer", 404),
        ("/models/" + "x" * 4000 + "/predict", 404),
        ("/predict?" + "x" * 4000, 200),
        ("/v1/models/other:predict", 404),
        ("/v1/models/tickets:explain", 405),
    ],
)
def test_path(served, path, status):
    path = "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in path)
    value = ASKED
    if path.startswith("/v1"):
        value = {"instances": ASKED["texts"]}
    elif path.startswith("/v2"):
        value = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    asked = post("host: evil.example.localhost", path=path, body=json.dumps(value).encode())
    found, head, body = raw(served[0], asked)
    assert found == status, body
    assert "location:" not in head
    assert b"hidden" not in body


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, 431),
        (b"GET /" + b"a" * 100_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (
            b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            400,
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", 400),
    ],
)
def test_head(served, head, status):
    assert raw(served[0], head)[0] == status


@pytest.mark.parametrize(
    ("packing", "body", "status"),
    [
        ("gzip", gzip.compress(b" " * 50_000_000 + BODY), 413),
        ("deflate", zlib.compress(b" " * 50_000_000 + BODY), 413),
        ("gzip", gzip.compress(BODY) * 2, 400),
        ("gzip", gzip.compress(BODY)[:-5], 400),
        ("gzip", b"\x00", 400),
        ("br", b"\x00", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415),
        ("identity", b"[" * 1_000_000, 400),
        ("identity", b'{"texts": ["' + b"\\ud800" + b'"]}', 400),
        ("identity", b'{"texts": ["a"], "top": 1e400}', 400),
        ("identity", b'{"texts": ["a"], "texts": "b"}', 400),
    ],
)
def test_body(client, packing, body, status):
    answer = client.post("/predict", content=body, headers={"content-encoding": packing})
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "where", "hint", "request_id"}


def test_no_answer_says_where_things_lie_when_a_version_cannot_be_loaded(tmp_path):
    workspace = serve(tmp_path / "hidden place" / "ws", "also_versions = [7]\n")
    folder = workspace.root / "serving" / "tickets"
    (folder / "1" / "model.onnx").write_bytes(b"no model")
    with running(settings_of(workspace)) as server:
        service = server.service
        wait_for(lambda: service.follower.problem is not None and service.shelf.problems)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            answers = [
                client.get("/status"),
                client.get("/health/ready"),
                client.post("/predict", json=ASKED),
                client.post("/v1/models/tickets:predict", json={"instances": ["a"]}),
                client.get("/v2/models/tickets"),
                client.post("/v2/repository/index"),
            ]
    for answer in answers:
        assert "model.onnx" in answer.text
        assert "hidden" not in answer.text
        assert str(tmp_path) not in answer.text


def test_no_answer_says_where_things_lie_when_a_disk_refuses(tmp_path):
    root = tmp_path / "hidden place" / "ws"
    root.mkdir(parents=True)
    (root / "tokens").write_text(f"feedback {TOKEN}\n")
    workspace = serve(root, 'tokens_file = "tokens"\n')
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            asked = client.post("/predict", json=ASKED).json()["request_id"]
            workspace.inbox.rmdir()
            workspace.inbox.symlink_to(workspace.inbox)  # a loop: nothing can be written below
            label = {"request_id": asked, "label": "shipping"}
            answer = client.post(
                "/feedback", json=label, headers={"authorization": f"Bearer {TOKEN}"}
            )
    assert answer.status_code == 500
    assert set(answer.json()) == {"error", "where", "hint", "request_id"}
    assert "hidden" not in answer.text
