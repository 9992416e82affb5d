from __future__ import annotations

import json
import shlex


def write(path, *groups):
    rows = [{"text": f"{label} text {n}", "label": label} for label, k in groups for n in range(k)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labels_in(in_workspace):
    value = json.loads(in_workspace("data", "labels", "--json").out)
    return {item["label"]: item["train"] + item["held_out"] for item in value["labels"]}


def test_ingest_names_the_near_label_and_the_commands_that_let_it_in(in_workspace, tmp_path):
    in_workspace("ingest", write(tmp_path / "a.jsonl", ("card arrival", 40), ("refund", 40)))
    ran = in_workspace("ingest", write(tmp_path / "b.jsonl", ("card arival", 3), ("top_up", 1)))
    assert ran.code == 0
    assert (
        "3 rows with the new label 'card arival' wait in the quarantine: it is close to "
        "'card arrival' (40 rows).\n"
        "  if 'card arrival' is meant: "
        "contlearn data quarantine --accept 'card arival=card arrival'\n"
        "  if both are meant: contlearn data quarantine --accept 'card arival'\n"
    ) in ran.out
    command = ran.out.split("is meant: ")[1].splitlines()[0]
    taken = in_workspace(*shlex.split(command)[1:])
    assert taken.out == "Accepted 3 rows; 0 were known, 0 are still refused.\n"
    assert labels_in(in_workspace) == {"card arrival": 43, "refund": 40, "top_up": 1}
    assert in_workspace("data", "quarantine").out == "The quarantine is empty.\n"


def test_a_near_label_that_is_meant_is_accepted_once_and_known_from_then_on(in_workspace, tmp_path):
    in_workspace("ingest", write(tmp_path / "a.jsonl", ("customer_account", 40)))
    in_workspace("ingest", write(tmp_path / "b.jsonl", ("customer_accounts", 2)))
    dry = in_workspace("data", "quarantine", "--accept", "customer_accounts", "--dry-run")
    assert dry.out.startswith("Would accept 2 rows")
    assert "customer_accounts" not in labels_in(in_workspace)
    assert in_workspace("data", "quarantine", "--accept", "customer_accounts").code == 0
    more = write(tmp_path / "c.jsonl", ("customer_accounts", 3))
    assert json.loads(in_workspace("ingest", more, "--json").out)["rejected"] == 0
    assert labels_in(in_workspace) == {"customer_account": 40, "customer_accounts": 3}


def test_accepting_what_is_not_there_says_so(in_workspace, tmp_path):
    in_workspace("ingest", write(tmp_path / "a.jsonl", ("card_arrival", 40)))
    in_workspace("ingest", write(tmp_path / "b.jsonl", ("card_arival", 1)))
    ran = in_workspace("data", "quarantine", "--accept", "card_arivel")
    assert ran.code == 2
    assert "No refused row has the label 'card_arivel'. The nearest is 'card_arival'." in ran.err
    ran = in_workspace("data", "quarantine", "--accept", "card_arival=card_arivals")
    assert ran.code == 2
    assert "There is no label 'card_arivals'. The nearest is 'card_arrival'." in ran.err


def test_a_label_that_is_chosen_may_be_an_alias_and_must_be_known(
    in_workspace, workspace, tmp_path
):
    in_workspace("ingest", write(tmp_path / "a.jsonl", ("shipping", 4), ("billing", 2)))
    config = workspace.config_file.read_text()
    aliases = '\n[data.label_aliases]\nVersand = "shipping"\n'
    workspace.config_file.write_text(config + aliases)
    assert in_workspace("data", "hold", "--label", "Versand").out == "4 records held.\n"
    for command in ("hold", "forget", "list"):
        ran = in_workspace("data", command, "--label", "shiping")
        assert ran.code == 2
        assert "There is no label 'shiping'. The nearest is 'shipping'." in ran.err


def test_an_entity_type_is_chosen_in_all_sentences_that_have_it(run, tmp_path):
    root = tmp_path / "entities"
    assert run("init", root, "--task", "token-classification").code == 0
    rows = [
        {"tokens": ["to", "Rome"], "tags": ["O", "B-city"]},
        {"tokens": ["Rome", "today"], "tags": ["B-city", "B-day"]},
        {"tokens": ["today"], "tags": ["B-day"]},
        {"tokens": ["Rome", "one"], "tags": ["B-city_part", "B-day"]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("--workspace", root, "ingest", path).code == 0
    assert run("--workspace", root, "data", "hold", "--label", "city").out == "2 records held.\n"
