"""contlearn.client against the server, and against one that fails in every way it may."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from contlearn.client import AsyncClient, Client, ClientError, PredictedEntity, Retries
from contlearn.errors import ServingError
from contlearn.serving.http.tokens import Tokens
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

TOKEN = "f" * 32


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two models on one server that takes feedback."""
    made = []
    for name, task, tagging in (
        ("tickets", "text-classification", False),
        ("slots", "token-classification", True),
    ):
        workspace = make_workspace(tmp_path_factory.mktemp(name) / "ws", name=name, task=task)
        folder = workspace.root / "serving" / name
        write_version(folder, 3, tagging=tagging)
        point_to(folder, 3, 1)
        made.append(settings_of(workspace, tokens=Tokens({"feedback": [TOKEN]})))
    with running(*made) as server:
        wait_for(lambda: server.site.is_ready)
        yield server


def test_a_prediction_names_version_and_request_and_takes_its_label(served):
    with Client(served.address, token=TOKEN) as client:
        client.wait_until_ready()
        answer = client.predict(["my parcel please", "refund the charge"], top=1)
        assert [item.label for item in answer.predictions] == ["shipping", "billing"]
        assert (answer.model, answer.version) == ("tickets", 3)
        assert len(answer.predictions[0].scores) == 1
        taken = client.feedback(answer.request_id, "returns", index=1)
        assert (taken.accepted, taken.new) == (1, True)
        assert not client.feedback(answer.request_id, "returns", index=1).new
        assert client.status()["version"] == 3
        many = ["my parcel please"] * 7
        found = list(client.predict_many(many, texts_per_request=3))
        assert [item.label for item in found] == ["shipping"] * 7


def test_a_text_that_alone_cannot_be_used_says_so_in_its_place(served):
    with Client(served.address, token=TOKEN) as client:
        answer = client.predict(["my parcel please", "", "refund the charge"])
        first, empty, third = answer.predictions
        assert (first.label, empty.label, third.label) == ("shipping", None, "billing")
        assert (first.error, empty.error) == (None, "The field 'text' is empty.")
        assert client.feedback(answer.request_id, "account", index=2).new
        with pytest.raises(ClientError) as caught:
            client.feedback(answer.request_id, "account", index=1)
        assert caught.value.status == 404


def test_entities_of_a_named_model(served):
    with Client(served.address, model="slots") as client:
        answer = client.predict([{"tokens": ["fly", "to", "rome"]}])
        (entity,) = answer.predictions[0].entities
        assert isinstance(entity, PredictedEntity)
        assert (entity.text, entity.type, entity.start) == ("rome", "city", 7)


def test_a_refusal_is_an_error_with_its_three_parts_and_is_not_repeated(served):
    with Client(served.address) as client, pytest.raises(ClientError) as caught:
        client.predict([""])
    error = caught.value
    assert (error.status, error.where) == (400, "texts[0]")
    assert isinstance(error, ServingError)
    assert error.request_id


def test_the_asynchronous_client_asks_many_at_once(served):
    async def body():
        async with AsyncClient(served.address, token=TOKEN) as client:
            assert await client.is_ready()
            answers = await asyncio.gather(
                *(client.predict(["the login again"]) for _ in range(20))
            )
            await client.feedback(answers[0].request_id, "account")
            with pytest.raises(ClientError):
                await client.feedback("never seen", "account")
            return {answer.predictions[0].label for answer in answers}

    assert asyncio.run(body()) == {"account"}


def test_nobody_listening_is_said_after_the_attempts():
    with Client("http://127.0.0.1:9", retries=Retries(attempts=2, first_seconds=0.01)) as client:
        assert not client.is_ready()
        with pytest.raises(ClientError, match="cannot be reached") as caught:
            client.predict(["a"])
    assert caught.value.status is None


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(ServingError, match="not the address"):
        Client("127.0.0.1:8080")


ANSWER = {
    "predictions": [{"label": "a", "confidence": 1.0, "scores": {"a": 1.0}}],
    "model": "m",
    "version": 1,
    "request_id": "r",
}


@pytest.fixture
def scripted():
    """A server that answers as it is told; `asked` holds the request ids that came."""

    class Scripted(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            server.asked.append(self.headers["x-request-id"])
            status, headers, body = server.script.pop(0)
            if status == 0:  # the connection breaks
                self.close_connection = True
                return
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.asked, server.script = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


QUICK = Retries(attempts=5, first_seconds=0.01)


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_what_passes_is_asked_again_under_one_request_id(scripted):
    busy = {"error": "busy", "where": "queue", "hint": None, "request_id": "r"}
    scripted.script = [
        (503, {"retry-after": "0"}, busy),
        (0, {}, None),
        (502, {}, "not JSON of ours"),
        (200, {}, ANSWER),
    ]
    with Client(address(scripted), retries=QUICK) as client:
        assert client.predict(["a"]).predictions[0].label == "a"
    assert len(scripted.asked) == 4
    assert len(set(scripted.asked)) == 1


def test_the_attempts_are_bounded_and_the_last_answer_is_the_error(scripted):
    busy = {"error": "The server is busy.", "where": "queue", "hint": "later", "request_id": "r"}
    scripted.script = [(503, {"retry-after": "0"}, busy)] * 5
    with (
        Client(address(scripted), retries=QUICK) as client,
        pytest.raises(ClientError, match=r"The server is busy") as caught,
    ):
        client.predict(["a"])
    assert (caught.value.status, len(scripted.asked)) == (503, 5)


def test_a_wait_that_is_longer_than_the_time_left_is_not_begun(scripted):
    scripted.script = [(503, {"retry-after": "60"}, {"error": "busy"})] * 2
    retries = Retries(most_seconds=60.0)
    with (
        Client(address(scripted), retries=retries, timeout_seconds=5.0) as client,
        pytest.raises(ClientError),
    ):
        client.predict(["a"])
    assert len(scripted.asked) == 1


def test_an_answer_that_is_not_ours_is_named(scripted):
    scripted.script = [(200, {}, {"hello": "world"})]
    with Client(address(scripted)) as client, pytest.raises(ClientError, match="not one of"):
        client.predict(["a"])
