"""Several models and versions on one server, canary and shadow, token ids, TLS, closed servers."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess

import httpx
import numpy as np
import pytest

from contlearn.serving.http.tokens import Tokens
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

CONTROL = {"authorization": "Bearer " + "c" * 32}
TOKENS = Tokens({"control": ["c" * 32]})


@pytest.fixture
def served(tmp_path):
    """A server whose champion is version 1; version 2 answers everything with returns."""
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    write_version(folder, 2, favoured="returns")
    point_to(folder, 1, 1)
    with running(settings_of(workspace, tokens=TOKENS)) as server:
        wait_for(lambda: server.service.is_ready)
        yield server, workspace


@pytest.fixture
def client(served):
    with httpx.Client(base_url=served[0].address, timeout=20) as made:
        yield made


def change(client, **roles):
    answer = client.post("/models/tickets/roles", json=roles, headers=CONTROL)
    assert answer.status_code == 202, answer.text


def ask(client, **headers):
    answer = client.post("/predict", json={"texts": ["my parcel please"]}, headers=headers)
    assert answer.status_code == 200, answer.text
    value = answer.json()
    return value["version"], value["predictions"][0]["label"]


def facts(client):
    return client.get("/models/tickets/roles", headers=CONTROL).json()


def test_roles_need_the_token_and_are_checked(client):
    assert client.post("/models/tickets/roles", json={}).status_code == 401
    wrong = client.post("/models/tickets/roles", json={"canary": 2}, headers=CONTROL)
    assert (wrong.status_code, wrong.json()["where"]) == (400, "canary")
    assert client.get("/models/other/roles", headers=CONTROL).status_code == 404


def test_a_canary_answers_its_share_and_those_who_ask_for_it(client):
    change(client, canary={"version": 2, "share": 0.5})
    wait_for(lambda: facts(client)["canary"])
    assert ask(client, **{"x-contlearn-canary": "always"}) == (2, "returns")
    assert ask(client, **{"x-contlearn-canary": "never"}) == (1, "shipping")
    answered = [ask(client) for _ in range(200)]
    share = sum(version == 2 for version, _ in answered) / len(answered)
    assert 0.3 < share < 0.7
    # A key of the client's own always falls on the same side.
    for key in ("alice", "bob", "carol"):
        assert len({ask(client, **{"x-contlearn-canary": key})[0] for _ in range(5)}) == 1
    change(client, canary=None)
    assert {ask(client)[0] for _ in range(20)} == {1}


def test_a_canary_that_fails_costs_no_answer_and_is_stopped(served, client):
    change(client, canary={"version": 2, "share": 1.0})
    wait_for(lambda: facts(client)["canary"])
    canary = served[0].service.shelf.loaded[2]
    canary.predictor._session = None  # every run fails from now on
    assert {ask(client) for _ in range(40)} == {(1, "shipping")}
    shown = facts(client)
    assert shown["canary_stopped"] == "canary 2 stopped: errors"
    assert shown["roles"]["canary"] is None
    metrics = client.get("/metrics").text
    assert 'contlearn_canary_stops_total{model="tickets",reason="errors"} 1.0' in metrics
    path = served[1].state / "serving" / "roles-tickets.json"
    assert json.loads(path.read_bytes())["note"] == "canary 2 stopped: errors"


def test_a_shadow_sees_the_texts_and_never_answers(served, client):
    change(client, shadow={"version": 2, "share": 1.0})
    wait_for(lambda: facts(client)["shadow"])
    assert {ask(client) for _ in range(10)} == {(1, "shipping")}
    answer = client.post("/predict", json={"texts": ["return my order"]})
    assert answer.json()["version"] == 1
    wait_for(lambda: sum(facts(client)["shadow"][k] for k in ("same", "different")) == 11)
    assert facts(client)["shadow"]["different"] >= 10

    def lines():
        return whole_lines(served[1].state / "shadow")

    found = wait_for(lambda: len(lines()) == 11 and lines())
    assert {(line["version"], line["shadow"]) for line in found} == {(1, 2)}
    assert found[0]["labels"] == ["shipping"]
    assert found[0]["shadow_labels"] == ["returns"]
    assert "text" not in found[0]


def test_a_version_that_the_gate_let_pass_and_nobody_promoted_is_the_challenger(served, client):
    workspace = served[1]
    folder = workspace.root / "serving" / "tickets"
    # 8 was refused, 9 was not judged, 10 was champion and gave way.
    for number, decision in ((7, True), (8, False), (9, None), (10, True)):
        copy_version(folder, 2, number)
        version = workspace.versions / str(number)
        version.mkdir()
        (folder / str(number)).rename(version / "onnx")
        (version / "onnx" / "manifest.json").rename(version / "manifest.json")
        if decision is not None:
            (version / "decision.json").write_text(json.dumps({"promoted": decision}))
    copy_version(folder, 2, 10)
    change(client, shadow={"version": "challenger"}, also=[2, 99])
    wait_for(lambda: facts(client)["shadow"])
    shown = wait_for(lambda: facts(client)["versions_kept_out"] and facts(client))
    assert shown["shadow"]["version"] == 7
    assert shown["beside"] == [2, 7]
    assert "There is no version 99" in shown["versions_kept_out"]["99"]


def test_further_versions_are_asked_by_number(client):
    change(client, also=[2])
    wait_for(lambda: facts(client)["beside"] == [2])
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["my parcel"]}]}
    for number, label in ((1, "shipping"), (2, "returns")):
        answer = client.post(f"/v2/models/tickets/versions/{number}/infer", json=body).json()
        assert (answer["model_version"], answer["outputs"][0]["data"]) == (str(number), [label])
    assert client.get("/v2/models/tickets").json()["versions"] == ["1", "2"]
    rows = client.post("/v2/repository/index").json()
    assert [(row["version"], row["state"]) for row in rows] == [("1", "READY"), ("2", "READY")]
    change(client, also=[])
    wait_for(lambda: facts(client)["beside"] == [])
    assert client.post("/v2/models/tickets/versions/2/infer", json=body).status_code == 404


def test_a_canary_that_is_promoted_becomes_the_champion(served, client):
    change(client, canary={"version": 2, "share": 0.0})
    wait_for(lambda: facts(client)["canary"])
    point_to(served[1].root / "serving" / "tickets", 2, 2)
    wait_for(lambda: ask(client) == (2, "returns"))
    wait_for(lambda: facts(client)["beside"] == [])
    assert ask(client) == (2, "returns")


def test_triton_loads_at_once_and_cannot_take_the_champion_away(served, client):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    url = served[0].address.removeprefix("http://")
    with triton.InferenceServerClient(url) as made:
        made.load_model("tickets", headers={"Authorization": CONTROL["authorization"]})
        with pytest.raises(triton.InferenceServerException, match="needs a token"):
            made.load_model("tickets")
        with pytest.raises(triton.InferenceServerException, match="cannot be unloaded"):
            made.unload_model("tickets", headers={"Authorization": CONTROL["authorization"]})


def encoded(server, text):
    return server.service.follower.current.predictor.tokenizer.encode(text).ids


@pytest.mark.parametrize("binary", [True, False])
def test_token_ids_give_the_logits_of_the_text(served, client, binary):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    server = served[0]
    texts = ["my parcel please", "refund the charge"]
    rows = [encoded(server, text) for text in texts]
    length = max(map(len, rows)) + 2
    ids = np.array([row + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    with triton.InferenceServerClient(server.address.removeprefix("http://")) as made:
        inputs = []
        for name, array in (("input_ids", ids), ("attention_mask", mask)):
            tensor = triton.InferInput(name, list(array.shape), "INT64")
            tensor.set_data_from_numpy(array, binary_data=binary)
            inputs.append(tensor)
        result = made.infer("tickets", inputs)
        outputs = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("logits")]
        chosen = made.infer("tickets", inputs, outputs=outputs)
    predictor = server.service.follower.current.predictor
    expected = [a.logits for a in predictor.predict_detailed([{"text": t} for t in texts])]
    assert result.as_numpy("logits") == pytest.approx(np.array(expected), abs=1e-5)
    assert [label.decode() for label in chosen.as_numpy("label")] == ["shipping", "billing"]


def ids_body(ids, mask, **changes):
    def tensor(name, rows):
        rows = np.array(rows)
        return {
            "name": name,
            "datatype": "INT64",
            "shape": list(rows.shape),
            "data": rows.ravel().tolist(),
        } | changes.get(name, {})

    return {"inputs": [tensor("input_ids", ids), tensor("attention_mask", mask)]}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (ids_body([[2, 3]], [[1]]), "attention_mask"),
        (ids_body([[2, 3]], [[0, 1]]), "attention_mask"),
        (ids_body([[2, 3]], [[2, 0]]), "attention_mask"),
        (ids_body([[2, 3]], [[0, 0]]), "input_ids"),
        (ids_body([[2, 10**9]], [[1, 1]]), "input_ids"),
        (ids_body([[-1, 3]], [[1, 1]]), "input_ids"),
        (ids_body([[2] * 33], [[1] * 33]), "input_ids"),
        (ids_body([[2]], [[1]], attention_mask={"name": "mask"}), "inputs"),
        (ids_body([[2]], [[1]], input_ids={"shape": [1]}), "input_ids"),
        (
            ids_body([[2]], [[1]], input_ids={"datatype": "BYTES", "data": ["a"]}),
            "input_ids",
        ),
    ],
)
def test_ids_that_are_wrong_are_refused_and_named(client, body, where):
    answer = client.post("/v2/models/tickets/infer", json=body)
    assert (answer.status_code, answer.json()["where"]) == (400, where), answer.text


def test_no_rows_of_ids_give_no_rows_of_logits(client):
    body = ids_body(np.zeros((0, 3), dtype=int), np.zeros((0, 3), dtype=int))
    answer = client.post("/v2/models/tickets/infer", json=body)
    assert answer.json()["outputs"][0]["shape"] == [0, 4]


def test_two_models_answer_under_their_names_and_the_first_by_default(tmp_path):
    made = []
    for name, task, tagging in (
        ("tickets", "text-classification", False),
        ("slots", "token-classification", True),
    ):
        workspace = make_workspace(tmp_path / name, name=name, task=task)
        folder = workspace.root / "serving" / name
        write_version(folder, 4, tagging=tagging)
        point_to(folder, 4, 1)
        made.append(settings_of(workspace))
    with running(*made) as server, httpx.Client(base_url=server.address, timeout=20) as client:
        wait_for(lambda: server.site.is_ready)
        body = {"texts": ["fly to rome"]}
        assert "label" in client.post("/predict", json=body).json()["predictions"][0]
        answer = client.post("/models/slots/predict", json=body).json()
        assert (answer["model"], answer["predictions"][0]["entities"][0]["type"]) == (
            "slots",
            "city",
        )
        assert client.get("/models/slots/status").json()["model"] == "slots"
        assert client.get("/status").json()["models"] == ["tickets", "slots"]
        assert client.post("/models/other/predict", json=body).status_code == 404
        names = {row["name"] for row in client.post("/v2/repository/index").json()}
        assert names == {"tickets", "slots"}
        stats = client.get("/v2/models/stats").json()["model_stats"]
        assert {row["name"]: row["inference_count"] for row in stats} == {"tickets": 1, "slots": 1}
        ids = encoded(server, "fly to rome")
        answer = client.post("/v2/models/slots/infer", json=ids_body([ids], [[1] * len(ids)]))
        assert answer.json()["outputs"][0]["shape"] == [1, len(ids), 3]
        metrics = client.get("/metrics").text
        for name in names:
            assert f'contlearn_model_version{{model="{name}"}} 4.0' in metrics


def test_two_models_of_one_name_are_refused(tmp_path):
    from contlearn.errors import ConfigError

    made = [settings_of(make_workspace(tmp_path / part, name="same")) for part in "ab"]
    with pytest.raises(ConfigError, match="Two models have the name 'same'"), running(*made):
        pass


def test_a_closed_server_wants_a_token_for_predictions(tmp_path):
    workspace = make_workspace(tmp_path / "ws", extra='tokens_file = "tokens"\n')
    (workspace.root / "tokens").write_text(f"predict {'p' * 20}\nfeedback {'f' * 20}\n")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address, timeout=20) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        body = {"texts": ["my parcel"]}
        assert client.post("/predict", json=body).status_code == 401
        assert client.post("/v2/models/tickets/infer", json={"inputs": []}).status_code == 401
        for token, status in (("f" * 20, 403), ("p" * 20, 200)):
            headers = {"authorization": f"Bearer {token}"}
            assert client.post("/predict", json=body, headers=headers).status_code == status
        assert client.get("/health/ready").status_code == 200
        assert client.post("/models/tickets/roles", json={}).status_code == 404


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian package openssl)")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [*command.split(), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True,
        capture_output=True,
    )
    return folder


def test_tls_is_served_with_the_certificate_that_was_named(tmp_path, certificate):
    extra = (
        f'tls_certificate = "{certificate / "cert.pem"}"\ntls_key = "{certificate / "key.pem"}"\n'
    )
    workspace = make_workspace(tmp_path / "ws", extra=extra)
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with running(settings_of(workspace)) as server:
        assert server.address.startswith("https://127.0.0.1:")
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, verify=context, timeout=20) as client:
            assert ask(client) == (1, "shipping")
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.address.replace("https", "http") + "/health/live", timeout=5)


def test_with_authorities_only_clients_with_their_certificate_are_let_in(tmp_path, certificate):
    pair = (str(certificate / "cert.pem"), str(certificate / "key.pem"))
    extra = "".join(
        f'tls_{name} = "{path}"\n'
        for name, path in zip(
            ("certificate", "key", "client_authorities"), (*pair, pair[0]), strict=True
        )
    )
    workspace = make_workspace(tmp_path / "ws", extra=extra)
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    known = ssl.create_default_context(cafile=pair[0])
    unknown = ssl.create_default_context(cafile=pair[0])
    known.load_cert_chain(*pair)
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        with httpx.Client(base_url=server.address, verify=known, timeout=20) as client:
            assert ask(client) == (1, "shipping")
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.address + "/health/live", verify=unknown, timeout=5)


def test_a_key_of_another_certificate_is_an_error_of_the_configuration(tmp_path, certificate):
    from contlearn.errors import ConfigError

    extra = (
        f'tls_certificate = "{certificate / "cert.pem"}"\ntls_key = "{certificate / "none.pem"}"\n'
    )
    workspace = make_workspace(tmp_path / "ws", extra=extra)
    with pytest.raises(ConfigError, match="certificate or its key"):
        settings_of(workspace)


def test_texts_unlike_the_proven_ones_are_flagged(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1, unknown={"score": "energy", "threshold": 2.0, "rate": 0.05})
    point_to(folder, 1, 1)
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address, timeout=20) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        answer = client.post("/predict", json={"texts": ["my parcel", "zzz"]}).json()
        assert [item["unknown"] for item in answer["predictions"]] == [False, True]
        outputs = [{"name": "unknown"}]
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["my parcel", "zzz"]}
        body = {"inputs": [tensor], "outputs": outputs}
        answer = client.post("/v2/models/tickets/infer", json=body).json()
        assert answer["outputs"][0]["data"] == [False, True]
        assert 'contlearn_unknown_texts_total{model="tickets"} 2.0' in client.get("/metrics").text


DAMAGED = {
    "nothing": b"",
    "cut": b'{"texts": ["a',
    "not an object": b"[1, 2]",
    "not a number": b'{"texts": ["a"], "top": NaN, "inputs": [{"shape": [NaN]}]}',
    "deep": b'{"texts": ' + b"[" * 100_000,
    "huge number": b'{"inputs": [{"name": "a", "datatype": "INT64", "shape": [1], "data": [1e400]}]}',
    "huge shape": b'{"inputs": [{"name": "input_ids", "datatype": "INT64", '
    b'"shape": [4294967296, 4294967296], "data": []}]}',
    "many rows": b'{"inputs": [{"name": "input_ids", "datatype": "INT64", '
    b'"shape": [50000000, 0], "data": []}]}',
    "nul": b'{"texts": ["a\\u0000b"], "labels": [{"request_id": "\\u0000", "label": "\\u0000"}]}',
    "half a pair": b'{"texts": ["\\ud800"], "canary": {"version": "\\udfff"}}',
    "twice": b'{"texts": ["a"], "texts": 5, "canary": 1, "canary": 2}',
    "latin": '{"texts": ["caf\xe9"]}'.encode("latin-1"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_every_route_survives_damaged_bodies(everywhere, name):
    client, routes = everywhere
    for method, path in routes:
        for headers in ({}, {"inference-header-content-length": "7"}):
            answer = client.request(method, path, content=DAMAGED[name], headers=headers | CONTROL)
            assert answer.status_code < 500, (method, path, answer.text)
            assert "Traceback" not in answer.text
    assert ask(client) == (1, "shipping")


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    """A client of a server with every route there is, and the routes."""
    workspace = make_workspace(tmp_path_factory.mktemp("routes") / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    token = CONTROL["authorization"].removeprefix("Bearer ")
    tokens = Tokens({role: [token] for role in ("predict", "feedback", "control")})
    with (
        running(settings_of(workspace, tokens=tokens)) as server,
        httpx.Client(base_url=server.address, timeout=20, headers=CONTROL) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        paths = client.get("/openapi.json").json()["paths"]
        routes = [
            (method.upper(), path.replace("{model}", "tickets").replace("{version}", "1"))
            for path, item in paths.items()
            for method in ("get", "post")
            if method in item
        ]
        assert len(routes) > 20
        yield client, routes
