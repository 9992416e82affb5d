"""What the commands print about a workspace with two promoted versions: the entire output."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests import warm
from tests.integration.conftest import Program
from tests.texts import classified, everything, write_rows

pytestmark = pytest.mark.slow

CONFIG = """
[model]
name = "tickets"
base = "{base}"
max_tokens = 32
[data]
held_out_ratio = 0.25
near_duplicates = false
rest_seconds = 0.0
[training]
epochs = 1
[gate]
margin = 0.5
worth_confidence = 0.5
"""


# What changes nothing that is shown is asked in this process.
LOOKS = frozenset({"alias", "evaluate", "history", "predict", "show", "status", "verify"})


@pytest.fixture(scope="module")
def contlearn(tmp_path_factory, tiny_model):
    """The program on a workspace where two updates were promoted."""
    program = Program(tmp_path_factory.mktemp("champion") / "ws")
    root = program.root
    names = {"OMP_NUM_THREADS": "1", "USER": "ada", "LOGNAME": "ada"}

    def run(*arguments: str) -> str:
        if arguments[0] in LOOKS or "--dry-run" in arguments:
            code, out, err = program.look(*arguments)
        else:
            code, out, err = warm.run(("--workspace", root, *arguments), environ=names)
        assert code == 0, err
        return out

    run("init", str(root))
    (root / "contlearn.toml").write_text(CONFIG.format(base=tiny_model), encoding="utf-8")
    for number, labels in enumerate((["billing", "shipping"], ["garden"])):
        write_rows(root / "inbox" / f"{number}.jsonl", classified(labels, 40, seed=number))
        run("update")
    run.root, run.look = root, program.look
    return run


def plain(text: str) -> str:
    """Fold blanks, and put signs for what differs from run to run: moments, figures, folders."""
    text = re.sub(r"\d{8}-\d{6}-(\d{5})", r"CYCLE-\1", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?", "MOMENT", text)
    text = re.sub(r"(?<!\w)/\S+", "PATH", text)
    text = re.sub(r"-?\d+(\.\d+)?(e-\d+)? (%|s\b)", r"# \3", text)
    text = re.sub(r"[-+]?\d+\.\d+(e-\d+)?", "#", text)
    text = re.sub(r"\s+", " ", text).strip()
    how = r"(as good as|# % (worse|better) in accuracy than)"
    return re.sub(rf"{how} the best proven version 1 on \d+ old held-out rows", "BEST", text)


MEASURES = (
    "accuracy # %, macro F1 # %, micro F1 # %, average accuracy # %, forgetting # %, "
    "backward transfer # %"
)


def test_status(contlearn):
    assert plain(contlearn("status")) == (
        "tickets · text-classification champion version 2 since MOMENT (fp32, 3 labels) "
        f"measures {MEASURES} "
        "BEST records 0 pending, 0 held, 89 learnt, 31 held out "
        "history 2 experiences, 2 versions last cycle CYCLE-00002: promoted "
        "next nothing starts by itself: no daemon runs daemon not running"
    )


def test_history(contlearn):
    lines = [plain(line) for line in contlearn("history").splitlines()]
    assert [re.sub(r"\d+$", "SECONDS", line) for line in lines[:4]] == [
        "Cycles",
        "cycle started trigger outcome version average seconds",
        "CYCLE-00002 MOMENT manual promoted 2 # % SECONDS",
        "CYCLE-00001 MOMENT manual promoted 1 # % SECONDS",
    ]
    assert lines[4:] == [
        "Journal",
        "when event version before who why",
        "MOMENT promote 2 1 ada cycle CYCLE-00002",
        "MOMENT register 2 –",
        "MOMENT promote 1 – ada cycle CYCLE-00001",
        "MOMENT register 1 –",
    ]


def test_show(contlearn):
    shown = plain(contlearn("show"))
    assert shown.startswith(
        f"Version 2 (champion) made MOMENT by cycle CYCLE-00002 aliases none "
        f"parent 1 measures {MEASURES} "
        "learnt 27 new records, 2 experiences, strategy replay labels 3: billing, shipping, garden "
    )
    for rule in ("no-regression passed", "no-harm passed", "gain passed", "floor n/a"):
        assert rule in shown


def test_evaluate(contlearn):
    assert plain(contlearn("evaluate")).startswith(
        f"Version 2 {MEASURES} Measure on held-out set k (column) after experience t (row), "
        "in percent after ↓ on → 1 2 1 # 2 # # Labels label precision recall F1 rows "
    )


def test_evaluate_says_how_many_rows_have_labels_that_are_not_known(contlearn, tmp_path):
    rows = classified(["billing", "garden"], 3, seed=9)
    some = write_rows(tmp_path / "some.jsonl", [*rows, {"text": "a drum", "label": "music"}])
    value = json.loads(contlearn("evaluate", "--on", str(some), "--json"))
    assert (value["unknown_label_rows"], value["unknown_labels"]) == (1, ["music"])
    assert (
        "1 rows have labels that this version does not know, and count as wrong: music"
        in contlearn("evaluate", "--on", str(some))
    )
    none = write_rows(tmp_path / "none.jsonl", [{"text": "a drum", "label": "music"}] * 2)
    with pytest.raises(AssertionError) as caught:
        contlearn("evaluate", "--on", str(none), "--json")
    told = str(caught.value)
    assert "None of the 2 rows has a label that version 2 knows: they have 'music'." in told
    assert "It knows 'billing', 'garden', 'shipping'." in told


def test_predict(contlearn):
    lines = contlearn("predict", "my invoice and refund", "rose and hedge").splitlines()
    assert [plain(line) for line in lines] == [
        "text label confidence",
        "my invoice and refund billing # %",
        "rose and hedge garden # %",
    ]


def test_verify_and_dry_runs(contlearn):
    assert contlearn("verify") == "2 versions checked, all whole.\n"
    assert contlearn("rollback", "--dry-run") == "Would go back from version 2 to 1.\n"
    assert contlearn("promote", "1", "--dry-run") == (
        "Version 1 could be promoted; the champion stays 2.\n"
    )
    assert contlearn("update", "--dry-run").startswith("No record is waiting to be learnt.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollback",),
        ("rollback", "--to", "1", "--hold-records"),
        ("promote", "1"),
        ("promote", "1", "--force", "--reason", "to see"),
        ("alias", "set", "blue", "1"),
        ("alias", "delete", "green"),
        ("export", "EXPORT"),
        ("export", "1", "EXPORT", "--precision", "fp16"),
        ("update",),
        ("update", "--force"),
        ("data", "hold", "--label", "garden"),
        ("data", "release"),
        ("data", "forget", "--label", "garden"),
        ("data", "quarantine", "--retry"),
        ("data", "quarantine", "--discard"),
        ("notify", "send"),
    ],
    ids=" ".join,
)
def test_dry_run_beside_a_champion_changes_nothing(contlearn, tmp_path, arguments):
    if arguments[:2] == ("alias", "delete") and "green" not in contlearn("alias", "list"):
        contlearn("alias", "set", "green", "2")
    given = [str(tmp_path / "out") if word == "EXPORT" else word for word in arguments]
    before = everything(contlearn.root)
    assert contlearn(*given, "--dry-run")
    assert everything(contlearn.root) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("export",), ("export", "1"), ("suggest", "--output")])
@pytest.mark.parametrize("place", ["versions/9", "versions/1/onnx/x", "state/x", "file/x"])
def test_nothing_is_written_into_the_registry_or_below_a_file(contlearn, arguments, place):
    before = everything(contlearn.root)
    texts = contlearn.root.parent / "texts.txt"
    texts.write_text("rose and hedge\n")
    more = ["--from", str(texts)] if arguments[0] == "suggest" else []
    (contlearn.root.parent / "file").write_text("x")
    folder = contlearn.root.parent if place == "file/x" else contlearn.root
    code, _, err = contlearn.look(*arguments, str(folder / place), *more)
    assert (code, "written there" in err, f"where: {folder / place}" in err) == (2, True, True)
    assert everything(contlearn.root) == before


def test_two_shells_at_once_one_changes_the_champion_and_the_other_is_told(contlearn):
    """Both saw version 2 and wait behind a third; a rollback never goes two steps by accident."""
    import time

    from contlearn.workspace import file_lock

    command = [sys.executable, "-m", "contlearn", "--workspace", str(contlearn.root), "rollback"]
    with file_lock(contlearn.root / "versions" / ".lock", what="testing"):
        shells = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        time.sleep(8)
        assert [shell.poll() for shell in shells] == [None, None]
    ended = [(*shell.communicate(timeout=60), shell.returncode) for shell in shells]
    assert sorted(code for _, _, code in ended) in ([0, 1], [0, 4])  # overtaken, or locked out
    ((told, code),) = [(err, code) for _, err, code in ended if code]
    words = {1: "made version 1 the champion", 4: "is promoting"}
    assert f"Another process {words[code]}" in told
    events = contlearn("history").splitlines()
    assert sum("rollback" in line for line in events) == 1
    contlearn("promote", "2", "--reason", "there again")
