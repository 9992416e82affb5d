"""A package that is not installed is named with the extra that brings it."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from contlearn import packages
from contlearn.packages import EXTRAS, missing_package

ROOT = Path(__file__).parents[2]
# Where the name of a distribution is not that of what is imported.
IMPORTED = {
    "avalanche-lib": "avalanche",
    "scikit-learn": "sklearn",
    "optimum-onnx": "optimum",
    "python-calamine": "python_calamine",
    "model-signing": "model_signing",
    "pyopenssl": None,
    "pyyaml": "yaml",
    "charset-normalizer": "charset_normalizer",
    "huggingface-hub": "huggingface_hub",
    "opentelemetry-sdk": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
}


def test_extras_are_those_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, wanted in project["optional-dependencies"].items():
        if extra in ("all", "demo"):
            continue
        known = {name for packages in EXTRAS.values() for name in packages}
        for requirement in wanted:
            name = requirement.split("[")[0].split(">")[0].split("=")[0].split("<")[0].lower()
            imported = IMPORTED.get(name, name)
            if name != "contlearn" and imported is not None:
                assert imported in known, requirement


def test_missing_package_is_found_behind_other_errors():
    try:
        try:
            raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
        except ModuleNotFoundError as error:
            raise RuntimeError("something") from error
    except RuntimeError as error:
        found = missing_package(error)
    assert "torch" in found.what
    assert "contlearn[train]" in found.hint
    assert missing_package(ModuleNotFoundError("x", name="contlearn_other")) is None
    assert missing_package(ValueError("x")) is None


@pytest.fixture
def without(tmp_path):
    """Run the program as if packages were not installed, in its children too."""

    def run(packages, *arguments, code=0):
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\n"
            "class Away:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name.partition('.')[0] in {set(packages)!r}:\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Away())\n"
        )
        paths = [str(tmp_path), str(ROOT)]
        end = subprocess.run(
            [sys.executable, "-m", "contlearn", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert end.returncode == code, end.stderr
        return end

    return run


def test_what_takes_files_in_names_its_extra(without, workspace, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "the kettle leaks", "label": "complaint"}\n')
    end = without(["pyarrow"], "--workspace", workspace.root, "ingest", rows, code=2)
    assert "This needs the package pyarrow, which is not installed." in end.stderr
    assert "contlearn[ingest]" in end.stderr
    assert "Traceback" not in end.stderr
    assert rows.exists()


@pytest.mark.slow
def test_scanning_child_names_its_extra_and_leaves_the_files(without, workspace):
    (workspace.inbox / "rows.jsonl").write_text('{"text": "it leaks", "label": "complaint"}\n')
    (workspace.inbox / "rows.jsonl.ready").touch()
    end = without(["pyarrow"], "--workspace", workspace.root, "update", "--json", code=2)
    assert "contlearn[ingest]" in json.loads(end.stdout)["hint"]
    end = without([], "--workspace", workspace.root, "ingest", "--json")
    assert json.loads(end.stdout)["accepted"] == 1


@pytest.mark.slow
def test_looking_and_serving_need_none_of_ingest(without, workspace):
    away = EXTRAS["ingest"]
    for command in ("status", "history", "config show", "plugins list"):
        without(away, "--workspace", workspace.root, *command.split())
    (workspace.root / "probe.py").write_text(
        "import contlearn.serving.app, contlearn.serving.compute.worker\n"
        "import contlearn.inference.predictor\n"
    )
    paths = [str(workspace.root.parent), str(ROOT)]
    code = "import runpy; runpy.run_path(" + repr(str(workspace.root / "probe.py")) + ")"
    blocker = (
        "import sys\n"
        "class Away:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {set(away)!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Away())\n"
    )
    subprocess.run(
        [sys.executable, "-c", blocker + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
        timeout=120,
    )


def test_both_files_of_versions_agree_but_for_what_the_majors_differ_in():
    def versions(name):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    old, new = versions("constraints.txt"), versions("constraints-train5.txt")
    assert {name for name in old.keys() & new.keys() if old[name] != new[name]} == {
        "transformers",
        "tokenizers",
        "huggingface-hub",
    }
    assert {"adapters", "optimum", "optimum-onnx"} <= old.keys() - new.keys()


@pytest.mark.parametrize(
    ("installed", "package", "extra", "what"),
    [
        (None, "peft", "train", "not installed"),
        ("4.57.6", "adapters", "train", "not installed"),
        ("5.24.0", "peft", "train5", "not installed"),
        ("5.24.0", "adapters", "train5", "does not work with transformers 5.24.0"),
        ("5.24.0", "pyarrow", "ingest", "not installed"),
    ],
)
def test_extra_that_is_named_fits_the_major(monkeypatch, installed, package, extra, what):
    monkeypatch.setattr(packages, "transformers_version", lambda: installed)
    found = missing_package(ModuleNotFoundError("x", name=package))
    assert f"[{extra}]" in found.where
    assert what in found.what
    other = "train" if "does not work" in what else extra
    assert f"contlearn[{other}]" in found.hint
