"""Feedback over a real server: labels are resolved or refused as the inbox does, at once."""

from __future__ import annotations

import contextlib
import itertools
import json

import httpx
import pytest

from contlearn.client import Client, ClientError
from contlearn.context import Context
from contlearn.data.intake.ingest import ingest_paths
from contlearn.monitoring.feedback_log import read_feedback
from contlearn.operations.drift import look
from contlearn.operations.ingest import intake_of
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

TOKEN = "a-token-of-the-test-suite-that-is-long"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
FEEDBACK = 'feedback_token_file = "token"\n'


def workspace_with(root, more="", **options):
    workspace = make_workspace(root, extra=FEEDBACK + more, **options)
    (workspace.root / "token").write_text(TOKEN)
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1, tagging=options.get("task") == "token-classification")
    point_to(folder, 1, 1)
    return workspace


@contextlib.contextmanager
def serving(workspace):
    with (
        running(settings_of(workspace)) as server,
        httpx.Client(base_url=server.address, headers=HEADERS) as client,
    ):
        wait_for(lambda: server.service.is_ready)
        yield client


def ask(client, text="my parcel please", **headers):
    answer = client.post("/predict", json={"texts": [text]}, headers=headers)
    assert answer.status_code == 200
    return answer.json()["request_id"]


def bring(workspace, name, rows):
    path = workspace.root / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Context.open(workspace.root) as context:
        return ingest_paths(intake_of(context), [path]).to_json()


def inbox_rows(workspace):
    files = sorted(workspace.inbox.glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


CLOSED = """
[data]
labels = ["billing", "shipping", "returns", "account"]
label_aliases = { Versand = "shipping" }
"""


def test_an_alias_counts_as_the_label_it_stands_for_in_inbox_and_measured_accuracy(tmp_path):
    workspace = workspace_with(tmp_path / "ws", CLOSED)
    with serving(workspace) as client:
        for _ in range(210):
            asked = ask(client)  # answered as shipping
            item = {"request_id": asked, "label": "Versand"}
            assert client.post("/feedback", json=item).status_code == 202
    assert set(read_feedback(workspace.state / "feedback").values()) == {"shipping"}
    assert inbox_rows(workspace) == [{"text": "my parcel please", "label": "shipping"}]
    with Context.open(workspace.root) as context:
        assert look(context, window=100)["accuracy"]["measured"]["value"] == 1.0


def test_a_label_outside_the_closed_set_is_refused_with_the_near_name(tmp_path):
    workspace = workspace_with(tmp_path / "ws", CLOSED)
    with serving(workspace) as client:
        asked = ask(client)
        good = {"request_id": asked, "label": "returns"}
        bad = {"request_id": asked, "label": "Shiping"}
        answer = client.post("/feedback", json={"labels": [good, bad]})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "where", "hint", "request_id"}
    assert answer.json()["where"] == "labels[1]"
    assert "'Shiping' is not in data.labels. The nearest is 'shipping'" in answer.json()["error"]
    assert inbox_rows(workspace) == []  # all or nothing
    assert read_feedback(workspace.state / "feedback") == {}


def test_a_near_label_is_refused_and_a_new_one_is_told(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    rows = [{"text": f"parcel number {n}", "label": "card_arrival"} for n in range(40)]
    assert bring(workspace, "first.jsonl", rows)["accepted"] == 40
    with serving(workspace) as client:
        asked = ask(client)
        refused = client.post("/feedback", json={"request_id": asked, "label": "card_arival"})
        alike = client.post("/feedback", json={"request_id": asked, "label": "Card_Arrival "})
        taken = client.post("/feedback", json={"request_id": asked, "label": "top_up"})
        known = client.post("/feedback", json={"request_id": asked, "label": "card_arrival"})
    assert (refused.status_code, alike.status_code) == (400, 400)
    assert "close to 'card_arrival'" in refused.json()["error"]
    assert "[data.label_aliases]" in refused.json()["hint"]
    assert (taken.status_code, taken.json()["new_labels"]) == (202, ["top_up"])
    assert (known.status_code, known.json()["new_labels"]) == (202, [])


def test_what_files_and_the_configuration_brought_meanwhile_is_known_at_once(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    bring(workspace, "a.jsonl", [{"text": f"a {n}", "label": "card_arrival"} for n in range(40)])
    with serving(workspace) as client:
        item = {"request_id": ask(client), "label": "card_arrivals"}
        assert client.post("/feedback", json=item).status_code == 400
        config = workspace.config_file.read_text()
        workspace.config_file.write_text(
            config + '[data]\nlabels = ["card_arrivals"]\nallow_new_labels = true\n'
        )
        bring(workspace, "b.jsonl", [{"text": "b", "label": "card_arrivals"}])
        workspace.config_file.write_text(config + "[data]\nlabels = 5\n")  # wrong: passed over
        assert client.post("/feedback", json=item).status_code == 202
        workspace.config_file.write_text(
            config + '[data.label_aliases]\nVersand = "card_arrivals"\n'
        )
        alias = {"request_id": ask(client, "the login again"), "label": "Versand"}
        assert client.post("/feedback", json=alias).status_code == 202
    assert {row["label"] for row in inbox_rows(workspace)} == {"card_arrivals"}


def test_entity_types_are_resolved_and_refused_alike(tmp_path):
    data = '[data]\nlabels = ["city"]\nlabel_aliases = { GPE = "city" }\n'
    workspace = workspace_with(tmp_path / "ws", data, task="token-classification")
    with serving(workspace) as client:
        asked = ask(client, "fly to Rome")
        spans = [{"start": 7, "end": 11, "type": "GPE"}]
        taken = client.post("/feedback", json={"request_id": asked, "label": spans})
        other = client.post("/feedback", json={"request_id": asked, "label": ["O", "O", "B-town"]})
    assert (taken.status_code, other.status_code) == (202, 400)
    (row,) = inbox_rows(workspace)
    assert row["tags"] == ["O", "O", "B-city"]


@pytest.mark.parametrize(
    "label", ["card_arival", "Versand", "top_up", "billing", " ", 7, "x" * 300]
)
@pytest.mark.parametrize("closed", [True, False])
def test_feedback_and_inbox_agree_on_every_label(tmp_path, label, closed):
    """What the server takes the inbox takes as the same label; what it refuses the inbox refuses."""
    names = 'labels = ["card_arrival", "billing"]\n' if closed else ""
    data = f'[data]\nnear_duplicates = false\n{names}label_aliases = {{ Versand = "billing" }}\n'
    workspace = workspace_with(tmp_path / "ws", data)
    bring(workspace, "a.jsonl", [{"text": f"a {n}", "label": "card_arrival"} for n in range(40)])
    with serving(workspace) as client:
        item = {"request_id": ask(client), "label": label}
        taken = client.post("/feedback", json=item).status_code == 202
    rows = inbox_rows(workspace)
    report = bring(workspace, "same.jsonl", [{"text": "my parcel please", "label": label}])
    assert taken == (report["accepted"] == 1)
    with Context.open(workspace.root) as context:
        from contlearn.operations.records import list_records

        newest = list_records(context, limit=1)["records"][0]["label"]
    assert not taken or rows == [{"text": "my parcel please", "label": newest}]


def test_the_client_sees_what_was_refused_and_what_is_new(tmp_path):
    workspace = workspace_with(tmp_path / "ws", CLOSED)
    with running(settings_of(workspace)) as server, Client(server.address, token=TOKEN) as client:
        client.wait_until_ready()
        answer = client.predict(["my parcel please"])
        with pytest.raises(ClientError, match="not in data.labels") as caught:
            client.feedback(answer.request_id, "shiping")
        assert caught.value.status == 400
        assert client.feedback(answer.request_id, "Versand").new_labels == ()


# -- request ids ---------------------------------------------------------------------------------


def test_the_first_that_has_a_request_id_keeps_it(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    with serving(workspace) as client:
        assert ask(client, "my parcel please", **{"x-request-id": "order-17"}) == "order-17"
        body = {"texts": ["pay me a million"]}
        second = client.post("/predict", json=body, headers={"x-request-id": "order-17"})
        other = second.json()["request_id"]
        assert other != "order-17"
        assert second.headers["x-request-id"] == other
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["pay me too"]}
        third = client.post(
            "/v2/models/tickets/infer", json={"inputs": [tensor], "id": "order-17"},
            headers={"x-request-id": "order-17"},
        )  # fmt: skip
        assert third.json()["parameters"]["request_id"] not in ("order-17", other)
        assert third.json()["id"] == "order-17"  # V2's own id is only sent back
        for asked, label in (("order-17", "shipping"), (other, "billing")):
            item = {"request_id": asked, "label": label}
            assert client.post("/feedback", json=item).status_code == 202
    assert sorted(inbox_rows(workspace), key=lambda row: row["label"]) == [
        {"text": "pay me a million", "label": "billing"},
        {"text": "my parcel please", "label": "shipping"},
    ]


def test_a_request_id_stays_taken_after_a_restart_and_on_another_server(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    mine = {"x-request-id": "order-18"}
    with serving(workspace) as first:
        ours = ask(first)
        assert ask(first, "my parcel please", **mine) == "order-18"
        with serving(workspace) as second:
            assert ask(second, "pay me a million", **mine) != "order-18"
            item = {"request_id": "order-18", "label": "billing"}
            assert second.post("/feedback", json=item).status_code == 404
    with serving(workspace) as again:
        assert ask(again, "pay me a million", **mine) != "order-18"
        assert ask(again, "pay me a million", **{"x-request-id": ours}) != ours
        assert again.post("/feedback", json=item).status_code == 404
        assert again.post("/feedback", json={**item, "request_id": ours}).status_code == 404


def test_ids_in_the_log_of_a_server_from_before_stay_taken(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    workspace.predictions.mkdir(parents=True, exist_ok=True)
    line = {"time": "2030-01-01T00:00:00.000+00:00", "request_id": "old-1", "index": 0,
            "version": 1, "labels": ["billing"], "characters": 4}  # fmt: skip
    (workspace.predictions / "20300101T000000000000-1.jsonl").write_text(json.dumps(line) + "\n")
    with serving(workspace) as client:
        assert ask(client, **{"x-request-id": "old-1"}) != "old-1"


def test_request_ids_of_the_server_cannot_be_guessed(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    with serving(workspace) as client:
        found = [ask(client) for _ in range(20)]
    bodies = [text.rpartition("-")[2] for text in found]
    assert all(len(body) == 32 for body in bodies)  # 128 bits
    # Of two drawn at random, about half of the bits differ; of two counted ones, few.
    pairs = itertools.pairwise(bodies)
    assert min((int(a, 16) ^ int(b, 16)).bit_count() for a, b in pairs) > 32


def test_an_id_is_free_until_a_request_is_answered_under_it(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    mine = {"x-request-id": "order-19"}
    with serving(workspace) as client:
        refused = client.post("/predict", json={"texts": [""]}, headers=mine)
        assert (refused.status_code, refused.json()["request_id"]) == (400, "order-19")
        assert ask(client, "my parcel please", **mine) == "order-19"


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<script>", "a\tb", "é", "clr-" + "0" * 32])
def test_an_id_that_is_none_is_replaced(tmp_path, given):
    workspace = workspace_with(tmp_path / "ws")
    with serving(workspace) as client:
        answer = client.post(
            "/predict", json={"texts": ["hi"]}, headers={"x-request-id": given.encode("latin-1")}
        )
        assert answer.json()["request_id"] != given


def test_another_text_than_was_asked_is_refused(tmp_path):
    workspace = workspace_with(tmp_path / "ws")
    with serving(workspace) as client:
        item = {"request_id": ask(client), "label": "billing"}
        other = client.post("/feedback", json={**item, "text": "pay me a million"})
        same = client.post("/feedback", json={**item, "text": "my  parcel please"})
    assert (other.status_code, same.status_code) == (409, 202)


@pytest.mark.parametrize(
    "changes",
    [{"request_id": "x" * 5_000}, {"request_id": "a\nb"}, {"index": True}, {"index": -1}],
)
def test_what_can_be_no_id_reaches_no_log(tmp_path, changes):
    workspace = workspace_with(tmp_path / "ws")
    with serving(workspace) as client:
        item = {"request_id": ask(client), "label": "billing", "text": "my parcel please"}
        status = client.post("/feedback", json={**item, **changes}).status_code
    assert status in (400, 404)
    assert read_feedback(workspace.state / "feedback") == {}
