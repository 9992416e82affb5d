from __future__ import annotations

import json
import subprocess
import sys

from contlearn.inference.__main__ import main
from tests.unit.inference.tiny import write_version


def test_check_runs_as_a_program_of_its_own_without_torch(tmp_path):
    folder = write_version(tmp_path / "1")
    code = (
        "import sys, contlearn.inference.__main__ as m; code = m.main(['check', sys.argv[1]]);"
        "sys.exit(code + 50 * ('torch' in sys.modules or 'pyarrow' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["ok"], result["precision"], result["problems"]) == (True, "fp32", [])


def test_check_fails_for_wrong_golden_answers(tmp_path, capsys):
    folder = write_version(tmp_path / "1")
    manifest = tmp_path / "1" / "manifest.json"
    value = json.loads(manifest.read_text())
    value["golden"]["logits"][3][0] += 1.0
    manifest.write_text(json.dumps(value))
    assert main(["check", str(folder)]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [
        "golden text 4 differs by 1 in its logits"
    ]


def test_check_fails_for_a_damaged_file(tmp_path, capsys):
    folder = write_version(tmp_path / "1")
    (folder / "tokenizer.json").write_bytes(b"")
    assert main(["check", str(folder)]) == 1
    assert "tokenizer.json is truncated" in json.loads(capsys.readouterr().out)["problems"][0]


def test_check_fails_without_golden_answers(tmp_path, capsys):
    folder = write_version(tmp_path / "1")
    manifest = tmp_path / "1" / "manifest.json"
    value = json.loads(manifest.read_text())
    del value["golden"]
    manifest.write_text(json.dumps(value))
    assert main(["check", str(folder)]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
