"""Entities that users put right: joined with the answers by request id, and measured."""

from __future__ import annotations

import json

import httpx
import pytest

from contlearn.client import Client
from contlearn.context import Context
from contlearn.operations.drift import look
from tests.served import make_workspace, point_to, running, settings_of, wait_for, write_version

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-test-suite-that-is-long"
ROME = [{"start": 10, "end": 14, "type": "city"}]


def test_entities_put_right_are_joined_by_request_id_and_measured(tmp_path):
    workspace = make_workspace(
        tmp_path / "ws", task="token-classification", extra='feedback_token_file = "token"\n'
    )
    (workspace.root / "token").write_text(TOKEN)
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1, tagging=True)
    point_to(folder, 1, 1)
    with running(settings_of(workspace)) as server:
        wait_for(lambda: server.service.is_ready)
        with Client(server.address, token=TOKEN) as client:
            for number in range(260):
                answer = client.predict(["please to Rome, today", "about me"])
                if number < 130:
                    continue
                # As answered, as tags, with another span, and with one that was overlooked.
                right = (ROME, ["O", "O", "B-city", "O", "O"])[number % 2]
                wrong = ([{**ROME[0], "end": 15}], [])[number % 2]
                client.feedback(answer.request_id, wrong if number % 5 == 0 else right, index=0)
                client.feedback(answer.request_id, [], index=1)
        with httpx.Client(base_url=server.address) as client:
            bad = {
                "request_id": answer.request_id,
                "label": [{"start": 11, "end": 14, "type": "x"}],
            }
            headers = {"authorization": f"Bearer {TOKEN}"}
            refused = client.post("/feedback", json=bad, headers=headers)
            assert refused.status_code == 400
            assert "does not begin and end with a word" in refused.json()["error"]
    with Context.open(workspace.root) as context:
        measured = look(context, window=260)["accuracy"]["measured"]
    # 130 texts without an entity are right; of 130 with one, every fifth was put right.
    assert measured["records"] == 260
    assert measured["value"] == pytest.approx(1 - 26 / 260)
    rows = [
        json.loads(line)
        for path in workspace.inbox.iterdir()
        for line in path.read_text().splitlines()
    ]
    words = ["please", "to", "Rome", ",", "today"]
    assert {"tokens": words, "tags": ["O", "O", "B-city", "O", "O"]} in rows
    assert {"tokens": words, "tags": ["O", "O", "B-city", "I-city", "O"]} in rows
    assert {"tokens": ["about", "me"], "tags": ["O", "O"]} in rows
    # Neither log holds a word of any text.
    state = [*workspace.predictions.iterdir(), *(workspace.state / "feedback").iterdir()]
    assert not any("Rome" in path.read_text() for path in state)
