"""The server over real sockets: its promises to clients, while versions come and go."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from contlearn.registry.leases import leased_versions
from contlearn.serving.settings import RequestLimits
from contlearn.tasks.text_classification import class_prediction
from contlearn.telemetry.measures import SERVER
from contlearn.types import LabelSpace
from tests.served import (
    copy_version,
    make_workspace,
    point_to,
    running,
    settings_of,
    wait_for,
    whole_lines,
    write_version,
)

TEXTS = ["my parcel please", "refund the charge", "the login again"]
EXPECTED = ["shipping", "billing", "account"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with version 3, and its workspace."""
    workspace = make_workspace(tmp_path_factory.mktemp("served") / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 3)
    point_to(folder, 3, 1)
    limits = RequestLimits(body_bytes=200_000, texts=50, text_characters=500, body_seconds=2.0)
    with running(settings_of(workspace, limits=limits)) as server:
        wait_for(lambda: server.service.is_ready)
        yield server, workspace


@pytest.fixture
def client(served):
    with httpx.Client(base_url=served[0].address, timeout=20) as made:
        yield made


def labels(answer):
    return [item["label"] for item in answer.json()["predictions"]]


def test_predict_answers_texts_in_order_with_the_version(client):
    answer = client.post("/predict", json={"texts": TEXTS}, headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200
    assert labels(answer) == EXPECTED
    assert answer.json()["version"] == 3
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-1"


def test_predict_cuts_scores_to_the_best(client):
    answer = client.post("/predict", json={"texts": TEXTS, "top": 2})
    assert [len(item["scores"]) for item in answer.json()["predictions"]] == [2, 2, 2]


def test_predict_takes_no_texts_and_gives_no_predictions(client):
    assert client.post("/predict", json={"texts": []}).json()["predictions"] == []


def test_predict_takes_a_packed_body(client):
    import gzip

    body = gzip.compress(json.dumps({"texts": TEXTS}).encode())
    answer = client.post("/predict", content=body, headers={"content-encoding": "gzip"})
    assert labels(answer) == EXPECTED


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b'"texts"', 400, "body"),
        (b"[" * 5000, 400, "body"),
        (b'{"texts": NaN}', 400, "body"),
        (b'{"texts": "one"}', 400, "body"),
        (b'{"texts": [1]}', 400, "texts[0]"),
        (b'{"texts": [""]}', 400, "texts[0]"),
        (b'{"texts": [" ", "b\\u0000"]}', 400, "texts[0]"),
        (b'{"texts": ["a", 1]}', 400, "texts[1]"),
        (b'{"texts": ["a"], "inputs": []}', 400, "body"),
        (b'{"text": ["a"]}', 400, "body"),
        (b'{"texts": ["a"], "top": -1}', 400, "top"),
        (b'{"texts": ["a"], "deadline_seconds": 0}', 400, "deadline_seconds"),
        (json.dumps({"texts": ["a"] * 51}).encode(), 413, "texts"),
        (json.dumps({"texts": ["a" * 501]}).encode(), 413, "texts[0]"),
        (b'{"texts": ["' + b"a" * 200_000 + b'"]}', 413, "body"),
    ],
)
def test_predict_refuses_what_is_wrong_and_says_where(client, body, status, where):
    answer = client.post("/predict", content=body)
    value = answer.json()
    assert (answer.status_code, value["where"]) == (status, where)
    assert set(value) == {"error", "where", "hint", "request_id"}
    assert value["error"].endswith(".")
    assert value["request_id"] == answer.headers["x-request-id"]


MIXED = ["refund the charge", "", "my parcel please", "b\0", "a" * 501]


def test_a_text_that_cannot_be_used_fails_only_itself(served, client):
    answer = client.post("/predict", json={"texts": MIXED}, headers={"x-request-id": "mixed-1"})
    assert answer.status_code == 200
    first, empty, third, control, long = answer.json()["predictions"]
    assert (first["label"], third["label"]) == ("billing", "shipping")
    assert empty["error"] == "The field 'text' is empty."
    assert [item["where"] for item in (empty, control, long)] == [
        "texts[1]",
        "texts[3]",
        "texts[4]",
    ]
    assert "501 characters" in long["error"]
    assert all(set(item) == {"error", "where", "hint"} for item in (empty, control, long))
    log = served[1].predictions
    lines = wait_for(lambda: [line for line in whole_lines(log) if line["request_id"] == "mixed-1"])
    assert [(line["index"], line["labels"]) for line in lines] == [
        (0, ["billing"]),
        (2, ["shipping"]),
    ]


@pytest.mark.parametrize("binary", [False, True])
def test_v2_leaves_the_place_of_a_text_that_cannot_be_used_empty_and_says_why(client, binary):
    body = {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [5], "data": MIXED}],
        "outputs": [
            {"name": "label"},
            {"name": "scores", "parameters": {"binary_data": binary}},
            {"name": "scores", "parameters": {"classification": 1}},
        ],
    }
    answer = client.post("/v2/models/tickets/infer", json=body)
    assert answer.status_code == 200
    size = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    value = json.loads(answer.content[:size])
    label, scores, best = value["outputs"]
    assert label["data"] == ["billing", "", "shipping", "", ""]
    assert scores["shape"] == [5, 4]
    if binary:
        numbers = np.frombuffer(answer.content[size:], dtype="<f4").reshape(5, 4)
        assert list(np.isnan(numbers).all(axis=1)) == [False, True, False, True, True]
    else:
        assert scores["data"][4:8] == [None] * 4
        assert sum(scores["data"][8:12]) == pytest.approx(1.0)
    assert [text.split(":")[-1] for text in best["data"]] == label["data"]
    errors = json.loads(value["parameters"]["errors"])
    assert [error["index"] for error in errors] == [1, 3, 4]
    assert errors[0]["error"] == "The field 'text' is empty."
    assert errors[0]["where"] == "inputs[0].data[1]"


def test_unpacked_size_is_bounded_too(client):
    import gzip

    body = gzip.compress(b'{"texts": ["' + b"a" * 5_000_000 + b'"]}')
    answer = client.post("/predict", content=body, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


def test_unknown_paths_and_methods_have_the_same_shape_of_error(client):
    assert client.get("/nothing").json()["where"] == "path"
    answer = client.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.post("/v2/models/other/infer", json={"inputs": []}).status_code == 404
    assert client.get("/v2/models/other").status_code == 404
    assert client.get("/v2/models/tickets/versions/9").json()["error"].endswith("version 3 is.")


def test_health_page_and_document_answer(client):
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json()["version"] == 3
    page = client.get("/")
    assert "<textarea" in page.text
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/v2/models/{model}/infer"} <= set(paths)


def test_metrics_parse_strictly_in_both_formats_and_are_the_documented_ones(client):
    client.post("/predict", json={"texts": TEXTS})
    plain = client.get("/metrics")
    families = list(parse_text(plain.text))
    names = {f.name + ("_total" if f.type == "counter" else "") for f in families}
    assert names == {measure.name for measure in SERVER}
    openmetrics = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert len(list(parse_openmetrics(openmetrics.text))) == len(SERVER)
    assert "_created" not in plain.text + openmetrics.text
    samples = {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}
    key = ("contlearn_champion_info", ("model", "tickets"), ("version", "3"))
    assert samples[key] == 1
    assert samples[("contlearn_predictions_total", ("label", "shipping"), ("model", "tickets"))] > 0


def test_metrics_pass_promtool(client):

    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    text = client.get("/metrics").text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_triton_client_works_unmodified(served):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    url = served[0].address.removeprefix("http://")
    with triton.InferenceServerClient(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tickets")
        assert client.is_model_ready("tickets", "3")
        assert client.get_server_metadata()["name"] == "contlearn"
        metadata = client.get_model_metadata("tickets")
        assert metadata["versions"] == ["3"]
        assert client.get_model_config("tickets")["name"] == "tickets"
        assert client.get_model_repository_index()[0]["state"] == "READY"
        assert client.get_inference_statistics("tickets")["model_stats"][0]["version"] == "3"
        assert client.get_inference_statistics()["model_stats"][0]["name"] == "tickets"
        data = np.array([text.encode() for text in TEXTS], dtype=np.object_)
        for binary_input in (True, False):
            tensor = triton.InferInput("text", [3], "BYTES")
            tensor.set_data_from_numpy(data, binary_data=binary_input)
            # Nothing asked for: everything comes back in binary, the client's default.
            result = client.infer("tickets", [tensor], request_id="r1")
            assert [label.decode() for label in result.as_numpy("label")] == EXPECTED
            assert result.as_numpy("scores").shape == (3, 4)
            assert result.get_response()["id"] == "r1"
            for binary_output in (True, False):
                wanted = [
                    triton.InferRequestedOutput("confidence", binary_data=binary_output),
                    triton.InferRequestedOutput("scores", binary_data=False, class_count=2),
                ]
                result = client.infer("tickets", [tensor], outputs=wanted, model_version="3")
                assert result.as_numpy("confidence").dtype == np.float32
                assert (result.as_numpy("confidence") > 0.5).all()
                assert result.as_numpy("scores").shape == (3, 2)
                first = result.as_numpy("scores")[0][0]
                first = first.decode() if isinstance(first, bytes) else first
                assert re.fullmatch(r"0\.\d+:1:shipping", first)
        compressed = client.infer("tickets", [tensor], request_compression_algorithm="gzip")
        assert [label.decode() for label in compressed.as_numpy("label")] == EXPECTED
        with pytest.raises(triton.InferenceServerException, match="There is no model 'other'"):
            client.infer("other", [tensor])
        column = triton.InferInput("text", [3, 1], "BYTES")
        column.set_data_from_numpy(data.reshape(3, 1))
        result = client.infer("tickets", [column])
        assert [label.decode() for label in result.as_numpy("label")] == EXPECTED


# open-inference-openapi 2.0.0.1 is generated for pydantic 1; ends when it is generated for 2.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_a_second_client_works_unmodified(served):
    module = pytest.importorskip(
        "open_inference.openapi.client", reason="needs open-inference-openapi"
    )
    from open_inference.openapi.errors import NotFoundError
    from open_inference.openapi.types import InferenceRequest, RequestInput

    with httpx.Client(timeout=10) as transport:
        client = module.OpenInferenceClient(base_url=served[0].address, httpx_client=transport)
        client.check_server_liveness()
        client.check_server_readiness()
        client.check_model_readiness("tickets")
        client.check_model_version_readiness("tickets", "3")
        assert client.read_server_metadata().name == "contlearn"
        assert client.read_model_metadata("tickets").inputs[0].name == "text"
        request = InferenceRequest(
            id="r2", inputs=[RequestInput(name="text", shape=[3], datatype="BYTES", data=TEXTS)]
        )
        answer = client.model_infer("tickets", request=request)
        assert (answer.id, answer.model_version) == ("r2", "3")
        data = answer.outputs[0].data
        assert list(getattr(data, "__root__", data)) == EXPECTED
        with pytest.raises(NotFoundError):
            client.check_model_readiness("other")


def test_predictions_are_logged_without_their_texts(served, client):
    client.post("/predict", json={"texts": TEXTS}, headers={"x-request-id": "logged-1"})

    def lines():
        found = whole_lines(served[1].predictions)
        return [line for line in found if line["request_id"] == "logged-1"]

    found = wait_for(lambda: len(lines()) == 3 and lines())
    assert [line["labels"] for line in found] == [[label] for label in EXPECTED]
    assert found[0]["version"] == 3
    assert found[0]["characters"] == len(TEXTS[0])
    assert found[0]["tokens"] == 5
    assert found[0]["unknown_ratio"] == 0
    assert len(found[0]["projection"]) == 32
    assert "text" not in found[0]


def raw(address, data, seconds=5.0):
    """Send bytes as they are; give what comes back until the server closes or time is up."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.settimeout(seconds)
        try:
            connection.sendall(data)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        except (TimeoutError, ConnectionError):
            pass
    return b"".join(parts)


HEAD = b"POST /v2/models/tickets/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


def infer_body(header_length, body):
    return (
        HEAD
        + b"inference-header-content-length: %b\r\ncontent-length: %d\r\n\r\n"
        % (header_length, len(body))
        + body
    )


def tensor(shape, size, extra=b""):
    return (
        b'{"inputs":[{"name":"text","datatype":"BYTES","shape":%b,'
        b'"parameters":{"binary_data_size":%b}%b}]}' % (shape, size, extra)
    )


RAW = {
    "not http": b"hello\r\n\r\n",
    "nul in the path": b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
    "bad method": b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n",
    "bad percent": b"GET /v2/models/%zz%00%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "non-ascii path": b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "absolute path": b"GET http://x:y:z/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "negative length": b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    "two lengths": b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
    "length and chunks": b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "huge chunk": b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    b"ffffffffffffffff\r\n",
    "huge head": b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    "upgrade": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n",
    "expect": b"POST /predict HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
    b"content-length: 2\r\n\r\n{}",
    "header length not a number": infer_body(b"1e3", b"{}"),
    "header length too long": infer_body(b"99999999999", b"{}"),
    "header length negative": infer_body(b"-1", b"{}"),
    "cut bytes": infer_body(
        b"%d" % len(tensor(b"[1]", b"6")), tensor(b"[1]", b"6") + b"\xff\xff\xff\xff\x00\x00"
    ),
    "size past the end": infer_body(b"%d" % len(tensor(b"[1]", b"999")), tensor(b"[1]", b"999")),
    "negative size": infer_body(
        b"%d" % len(tensor(b"[1]", b"-4")), tensor(b"[1]", b"-4") + b"abcd"
    ),
    "huge shape": infer_body(
        b"%d" % len(tensor(b"[4294967296,4294967296]", b"4")),
        tensor(b"[4294967296,4294967296]", b"4") + b"abcd",
    ),
    "negative shape": infer_body(
        b"%d" % len(tensor(b"[-1]", b"4")), tensor(b"[-1]", b"4") + b"abcd"
    ),
    "not a number in the shape": infer_body(
        b"%d" % len(tensor(b"[NaN]", b"4")), tensor(b"[NaN]", b"4") + b"abcd"
    ),
    "left over": infer_body(b"%d" % len(tensor(b"[0]", b"0")), tensor(b"[0]", b"0") + b"abcd"),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_bytes_leave_the_server_alive(served, client, name):
    server = served[0]
    answer = raw(server.address, RAW[name])
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses, answer
    assert all(status[:1] in (b"1", b"2", b"4") for status in statuses), answer
    if statuses[-1][:1] == b"4":
        body = json.loads(answer.rpartition(b"\r\n\r\n")[2])
        assert body["error"]
        assert "Traceback" not in body["error"]
    assert labels(client.post("/predict", json={"texts": TEXTS})) == EXPECTED


def test_random_bytes_leave_the_server_alive_and_small(served, client):
    server = served[0]
    generator = np.random.default_rng(17)
    valid = infer_body(b"%d" % len(tensor(b"[1]", b"6")), tensor(b"[1]", b"6") + b"\x02\0\0\0hi")
    before = psutil.Process().memory_info().rss
    for _ in range(400):
        data = bytearray(valid)
        for _ in range(int(generator.integers(1, 12))):
            place = int(generator.integers(len(data)))
            change = int(generator.integers(3))
            if change == 0:
                data[place] = int(generator.integers(256))
            elif change == 1:
                del data[place : place + int(generator.integers(1, 9))]
            else:
                data[place:place] = generator.integers(0, 256, 4, dtype=np.uint8).tobytes()
        answer = raw(server.address, bytes(data), seconds=0.05)
        assert b"HTTP/1.1 5" not in answer, answer
    assert psutil.Process().memory_info().rss - before < 50_000_000
    assert labels(client.post("/predict", json={"texts": TEXTS})) == EXPECTED


def test_a_body_that_does_not_come_is_given_up(served):
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    assert b"HTTP/1.1 408" in raw(served[0].address, head, seconds=30.0)


def test_a_tagging_model_gives_entities(tmp_path):
    workspace = make_workspace(tmp_path / "ws", name="slots", task="token-classification")
    folder = workspace.root / "serving" / "slots"
    write_version(folder, 1, tagging=True)
    point_to(folder, 1, 1)
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        answer = client.post("/predict", json={"texts": ["fly me to Rome please"]})
        (entity,) = answer.json()["predictions"][0]["entities"]
        assert (entity["start"], entity["end"], entity["type"], entity["text"]) == (
            10,
            14,
            "city",
            "Rome",
        )
        answer = client.post("/predict", json={"inputs": [{"tokens": ["to", "Oslo"]}]})
        assert answer.json()["predictions"][0]["entities"][0]["text"] == "Oslo"
        request = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["to Rome"]}]
        }
        outputs = client.post("/v2/models/slots/infer", json=request).json()["outputs"]
        assert json.loads(outputs[0]["data"][0])[0]["type"] == "city"
        assert json.loads(outputs[1]["data"][0]) == ["O", "B-city"]


def test_a_server_starts_before_the_first_promotion_and_takes_it_up(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        for answer in (client.get("/health/ready"), client.post("/predict", json={"texts": TEXTS})):
            assert answer.status_code == 503
            assert "contlearn update" in answer.json()["hint"]
            assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/tickets/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        write_version(folder, 1)
        point_to(folder, 1, 1)
        wait_for(lambda: client.get("/health/ready").status_code == 200)
        assert labels(client.post("/predict", json={"texts": TEXTS})) == EXPECTED


def test_a_version_that_cannot_be_loaded_stays_out_and_is_reported(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    broken = copy_version(folder, 1, 2)
    model = broken / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.chmod(0o644)
    model.write_bytes(data)
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        assert leased_versions(workspace.state / "leases") == {1}
        point_to(folder, 2, 2)
        wait_for(
            lambda: 'model_rejected_version{model="tickets"} 2.0' in client.get("/metrics").text
        )
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["version"]) == (200, 1)
        assert "model.onnx" in ready.json()["problem"]["error"]
        assert client.post("/predict", json={"texts": TEXTS}).json()["version"] == 1
        write_version(folder, 4)
        point_to(folder, 4, 3)
        wait_for(lambda: client.get("/health/ready").json()["version"] == 4)
        assert client.get("/health/ready").json()["problem"] is None
        wait_for(lambda: leased_versions(workspace.state / "leases") == {4})
    assert leased_versions(workspace.state / "leases") == set()


def test_a_server_whose_workers_answer_nothing_is_not_ready_and_says_why(tmp_path):
    class Stuck:
        label_space = LabelSpace(("a",))
        gate = threading.Event()

        def predict(self, inputs):
            self.gate.wait(60)
            return [class_prediction("a", 1.0, {}) for _ in inputs]

    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    stuck = Stuck()
    with running(settings_of(workspace, load=lambda _: stuck)) as server:
        wait_for(lambda: server.service.is_ready)
        with (
            httpx.Client(base_url=server.address, timeout=60) as client,
            ThreadPoolExecutor(1) as threads,
        ):
            asked = threads.submit(client.post, "/predict", json={"texts": ["a"]})
            wait_for(lambda: server.site.engine.silent_seconds > 0)
            # Six seconds later.
            server.site.engine.clock = lambda: time.monotonic() + 6.0
            answer = httpx.get(server.address + "/health/ready")
            assert answer.status_code == 503
            assert answer.json()["where"] == "workers of the server"
            assert "No worker has answered for" in answer.json()["error"]
            assert httpx.get(server.address + "/v2/health/ready").status_code == 503
            server.site.engine.clock = time.monotonic
            stuck.gate.set()
            assert asked.result(60).status_code == 200
            assert client.get("/health/ready").status_code == 200


def test_swaps_under_load_lose_no_request_and_answer_with_the_right_version(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    answers = {1: "returns", 2: "account"}
    for number, label in answers.items():
        write_version(folder, number, favoured=label)
    point_to(folder, 1, 1)
    settings = settings_of(workspace, poll_seconds=0.01)
    seen, failures, stop = [], [], threading.Event()
    with running(settings) as server:
        wait_for(lambda: server.service.is_ready)

        def ask():
            with httpx.Client(base_url=server.address, timeout=20) as client:
                while not stop.is_set():
                    before = certain[0]
                    answer = client.post("/predict", json={"texts": TEXTS})
                    if answer.status_code != 200:
                        failures.append(answer.text)
                        return
                    value = answer.json()
                    version = value["version"]
                    if {item["label"] for item in value["predictions"]} != {answers[version]}:
                        failures.append(value)
                    # Nothing was promoted while it was asked: only one version is right.
                    if before is certain[0] and before[1] is not None and version != before[1]:
                        failures.append(("wrong version", before, version))
                    seen.append(version)

        certain = [(1, 1)]
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(ask) for _ in range(4)]
            for epoch in range(2, 32):
                number = 2 - epoch % 2
                certain[0] = (epoch, None)
                point_to(folder, number, epoch)
                wait_for(lambda n=number: server.service.follower.current.number == n)
                certain[0] = (epoch, number)
                time.sleep(0.02)
            stop.set()
            for one in done:
                one.result()
        assert server.service.follower.swaps == 31
    assert failures == []
    assert set(seen) == {1, 2}
    assert len(seen) > 100


def test_feedback_needs_its_token_and_lands_in_the_inbox(tmp_path):
    token = "s3cret-" * 6
    workspace = make_workspace(tmp_path / "ws", extra='feedback_token_file = "feedback.token"\n')
    (workspace.root / "feedback.token").write_text(token + "\n")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        asked = client.post("/predict", json={"texts": TEXTS}).json()["request_id"]
        label = {"request_id": asked, "index": 1, "label": "returns"}
        assert client.post("/feedback", json=label).status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        for new in (True, False):
            answer = client.post("/feedback", json={"labels": [label]}, headers=headers)
            assert (answer.status_code, answer.json()["new"]) == (202, new)
        (path,) = workspace.inbox.iterdir()
        assert json.loads(path.read_text()) == {"text": TEXTS[1], "label": "returns"}
        unknown = {"request_id": "never", "label": "returns"}
        assert client.post("/feedback", json=unknown, headers=headers).status_code == 404
        assert "/feedback" in client.get("/openapi.json").json()["paths"]


def test_without_a_token_there_is_no_route_for_feedback(client):
    assert client.post("/feedback", json={}).status_code == 404


def serve_in_a_process(root):
    process = subprocess.Popen(
        [sys.executable, "-m", "contlearn", "--workspace", str(root), "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "listening":
            return process, event["address"]
    raise AssertionError(f"the server ended with {process.wait()}")


@pytest.mark.slow
def test_sigterm_lets_requests_finish_and_ends_with_zero(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    process, address = serve_in_a_process(workspace.root)
    try:
        with httpx.Client(base_url=address, timeout=20) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            failures, closed, count = [], threading.Event(), []

            def ask():
                with httpx.Client(base_url=address, timeout=20) as own:
                    while not closed.is_set():
                        try:
                            answer = own.post("/predict", json={"texts": TEXTS * 5})
                        except httpx.ConnectError:
                            return  # the listener is closed: nothing was sent
                        if answer.status_code != 200:
                            failures.append(answer.status_code)
                        count.append(1)

            with ThreadPoolExecutor(3) as pool:
                done = [pool.submit(ask) for _ in range(3)]
                wait_for(lambda: len(count) > 10)
                process.send_signal(signal.SIGTERM)
                wait_for(lambda: all(one.done() for one in done), 20)
                closed.set()
                for one in done:
                    one.result()
        assert process.wait(20) == 0
        assert failures == []
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_explained(tmp_path, served):
    workspace = make_workspace(tmp_path / "ws")
    port = served[0].address.rpartition(":")[2]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "contlearn",
            "--workspace",
            str(workspace.root),
            "serve",
            "--port",
            port,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_schemathesis_finds_no_server_error_and_no_violation_of_the_document(served, tmp_path):
    check_document(served[0].address, tmp_path)


@pytest.mark.slow
def test_schemathesis_finds_nothing_on_the_routes_that_need_a_token(tmp_path):
    token = "s3cret-" * 6
    workspace = make_workspace(tmp_path / "ws", extra='tokens_file = "tokens"\n')
    (workspace.root / "tokens").write_text(
        "".join(f"{role} {token}\n" for role in ("predict", "feedback", "control"))
    )
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        check_document(server.address, tmp_path, f"--header=Authorization: Bearer {token}")


def check_document(address, tmp_path, *options):
    pytest.importorskip("schemathesis", reason="needs schemathesis")
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            program,
            "run",
            address + "/openapi.json",
            *options,
            "--max-examples=40",
            "--phases=examples,coverage,fuzzing",
            "--seed=17",
            "--no-color",
            "--suppress-health-check=all",
            # Shape and data of a tensor must fit each other, which JSON Schema cannot say.
            "--exclude-checks=positive_data_acceptance",
        ],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.slow
def test_the_page_runs_in_a_browser_without_errors(served, tmp_path):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium (Debian package)")
    done = subprocess.run(
        [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=4000",
            "--dump-dom",
            served[0].address + "/",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "version 3 answers" in done.stdout
    assert "4 labels: billing, shipping, returns, account" in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
