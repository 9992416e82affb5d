"""Where the server listens, how many it takes, and what it takes up while it runs."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys

import httpx
import pytest

from contlearn.errors import ServingError
from contlearn.serving.http.server import bind, bind_socket
from tests.served import (
    make_workspace,
    point_to,
    running,
    settings_of,
    wait_for,
    write_version,
)

ASKED = {"texts": ["where is my parcel"]}


@pytest.fixture
def serve(tmp_path):
    def make(extra=""):
        workspace = make_workspace(tmp_path / "ws", extra=extra)
        folder = workspace.root / "serving" / "tickets"
        write_version(folder, 1)
        point_to(folder, 1, 1)
        return workspace

    return make


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_an_address_of_ipv6_is_taken_with_brackets_and_without(host):
    try:
        listener = bind(host, 0)
    except ServingError:
        pytest.skip("needs IPv6")
    with listener:
        assert listener.getsockname()[0] == "::1"
        port = listener.getsockname()[1]
        with pytest.raises(ServingError, match=rf"The address \[::1\]:{port} cannot be used"):
            bind(host, port)


def test_a_socket_is_served_and_one_that_was_left_behind_is_taken_over(serve, tmp_path):
    path = tmp_path / "s"
    bind_socket(path).close()  # a server that was killed
    listener = bind_socket(path)
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(ServingError, match="already in use"):
        bind_socket(path)
    with running(settings_of(serve()), listener=listener) as server:
        assert server.address == f"unix:{path}"
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://contlearn", timeout=20) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            assert client.post("/predict", json=ASKED).json()["version"] == 1


@pytest.mark.parametrize("path", ["no-folder/s", "x" * 200, "file"])
def test_a_place_where_no_socket_can_be_is_an_error_in_words(tmp_path, path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ServingError) as caught:
        bind_socket(tmp_path / path)
    assert caught.value.what.startswith("The socket cannot be used: ")
    assert caught.value.where.startswith(str(tmp_path / path))
    assert (tmp_path / "file").read_text() == "x"


def test_requests_below_the_path_of_a_proxy_are_answered_and_nobody_is_sent_elsewhere(serve):
    with running(settings_of(serve('root_path = "/cl/"\n'))) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            for path in ("/predict", "/predict/", "/cl/predict", "/cl/predict/"):
                assert client.post(path, json=ASKED).status_code == 200
            for path in ("/", "/cl", "/cl/"):
                assert '<base href="/cl/">' in client.get(path).text
            assert client.get("/clx").status_code == 404
            assert client.get("/cl/cl").status_code == 404
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/cl"}]


def test_pages_and_names_that_are_named_may_ask(serve):
    extra = 'allowed_hosts = ["*.example.com"]\ncors_origins = ["https://page.example/"]\n'
    with running(settings_of(serve(extra))) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            page = {"origin": "https://page.example"}
            answer = client.post("/predict", json=ASKED, headers=page)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == page["origin"]
            refused = client.post("/predict", json={}, headers=page)
            assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (
                400,
                True,
            )
            wishes = {"access-control-request-method": "POST"}
            wishes["access-control-request-headers"] = "authorization, content-type"
            assert client.options("/predict", headers=page | wishes).status_code == 200
            other = {"origin": "https://other.example"}
            assert client.options("/predict", headers=other | wishes).status_code == 400
            assert client.post("/predict", json=ASKED, headers=other).status_code == 403
            for host, status in (("a.example.com", 200), ("example.com", 400)):
                assert client.get("/status", headers={"host": host}).status_code == status


def test_the_first_protocol_of_kserve_is_spoken(serve):
    with running(settings_of(serve())) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            answer = client.post(
                "/v1/models/tickets:predict",
                json={"instances": ["where is my parcel", {"text": "refund the charge"}]},
            )
            assert [p["label"] for p in answer.json()["predictions"]] == ["shipping", "billing"]
            answer = client.post(
                "/v1/models/tickets:predict",
                json={"instances": ["where is my parcel", "", {"text": "refund the charge"}]},
            )
            first, empty, last = answer.json()["predictions"]
            assert (first["label"], last["label"]) == ("shipping", "billing")
            assert sorted(empty) == ["error", "hint", "where"]
            assert empty["where"] == "instances[1]"
            refused = client.post("/v1/models/tickets:predict", json={"instances": ["", ""]})
            assert (refused.status_code, refused.json()["where"]) == (400, "instances[0]")
            assert client.get("/v1/models").json() == {"models": ["tickets"]}
            ready = {"name": "tickets", "ready": True}
            assert client.get("/v1/models/tickets").json() == ready
            for body in ({}, {"instances": "x"}, {"instances": [], "texts": []}):
                refused = client.post("/v1/models/tickets:predict", json=body)
                assert (refused.status_code, refused.json()["where"]) == (400, "body")


def test_a_token_is_taken_up_without_a_new_start(serve, tmp_path):
    workspace = serve('tokens_file = "tokens"\n')
    path = workspace.root / "tokens"
    path.write_text(f"feedback {'f' * 20}\n")
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, timeout=20) as client:
            assert client.post("/predict", json=ASKED).status_code == 200
            assert client.get("/status").json()["token_needed"] is False
            assert "/models/{model}/roles" not in client.get("/openapi.json").json()["paths"]
            path.write_text(f"predict {'p' * 20}\ncontrol {'c' * 20}\n")
            wait_for(lambda: client.post("/predict", json=ASKED).status_code == 401)
            assert client.get("/status").json()["token_needed"] is True
            given = {"authorization": f"Bearer {'p' * 20}"}
            assert client.post("/predict", json=ASKED, headers=given).status_code == 200
            given = {"authorization": f"Bearer {'c' * 20}"}
            assert client.get("/models/tickets/roles", headers=given).status_code == 200
            assert "/models/{model}/roles" in client.get("/openapi.json").json()["paths"]


def _make_certificate(folder, kind):
    folder.mkdir()
    key = "ec -pkeyopt ec_paramgen_curve:prime256v1" if kind == "ec" else "rsa:2048"
    subprocess.run(
        [*f"openssl req -x509 -newkey {key} -nodes -days 2".split(), "-subj", "/CN=127.0.0.1"]
        + ["-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True,
        capture_output=True,
    )


def test_a_certificate_is_taken_up_without_a_new_start(serve, tmp_path, caplog):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian package openssl)")
    for name, kind in (("old", "rsa"), ("new", "ec")):
        _make_certificate(tmp_path / name, kind)
    used = tmp_path / "used"
    shutil.copytree(tmp_path / "old", used)
    extra = f'tls_certificate = "{used / "cert.pem"}"\ntls_key = "{used / "key.pem"}"\n'

    def served_as(server):
        return ssl.get_server_certificate(server.listener.getsockname()[:2], timeout=20).strip()

    def pem(name):
        return (tmp_path / name / "cert.pem").read_text().strip()

    with running(settings_of(serve(extra))) as server:
        wait_for(lambda: server.service.is_ready)
        assert served_as(server) == pem("old")
        shutil.copy(tmp_path / "new" / "cert.pem", used)  # its key is not there yet
        wait_for(lambda: "certificate refused, the old one is kept" in caplog.messages)
        assert served_as(server) == pem("old")
        shutil.copy(tmp_path / "new" / "key.pem", used)
        wait_for(lambda: served_as(server) == pem("new"))
        known = ssl.create_default_context(cafile=str(tmp_path / "new" / "cert.pem"))
        assert httpx.get(f"{server.address}/health/live", verify=known).status_code == 200


FEW_FILES = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (130, 130))
sys.path.insert(0, {root!r})
from contlearn.telemetry.logs import configure_logs
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version
configure_logs("INFO")
workspace = make_workspace(Path(sys.argv[1]) / "few")
folder = workspace.root / "serving" / "tickets"
write_version(folder, 1)
point_to(folder, 1, 1)
with running(settings_of(workspace)) as server:
    wait_for(lambda: server.service.is_ready)
    print(server.listener.getsockname()[1], flush=True)
    sys.stdin.readline()
"""


def test_with_few_files_what_comes_beyond_is_answered_and_not_reset(request, tmp_path):
    script = FEW_FILES.format(root=str(request.config.rootpath))
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    asked = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    held, statuses = [], []
    try:
        port = int(program.stdout.readline())
        for _ in range(200):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            held.append(connection)
            connection.sendall(asked)
            statuses.append(int(connection.recv(4096).split()[1]))
    finally:
        for connection in held:
            connection.close()
        program.communicate("\n", timeout=30)
    assert set(statuses) == {200, 503}
    assert statuses[0] == 200
    assert statuses == sorted(statuses)
    assert "fewer connections than configured" in (tmp_path / "log").read_text()
