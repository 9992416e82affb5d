"""Small staged versions and a registry for them; nothing here loads onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

from contlearn.config import Config, ModelConfig, RetentionConfig
from contlearn.registry.promotion import promote
from contlearn.registry.versions import Registry
from contlearn.testing import FakeClock
from contlearn.workspace import FileOperations, Workspace


def well(folder: Path) -> list[str]:
    """A preflight that finds nothing, but looks whether the copy is there."""
    return [] if (folder / "model.onnx").is_file() else ["model.onnx is missing"]


def make_registry(
    root: Path, *, files: FileOperations | None = None, keep: int = 10, preflight=well
) -> Registry:
    workspace = Workspace(root)
    workspace.make_folders()
    config = Config(model=ModelConfig(name="test"), retention=RetentionConfig(versions=keep))
    return Registry(workspace, config, files=files, clock=FakeClock(), preflight=preflight)


def facts(**changes) -> dict:
    value = {
        "model": {"task": "text-classification", "labels": ["no", "yes"], "max_tokens": 32, "temperature": 1.0,
                  "precision": "fp32", "processor": [], "base": "tiny", "pooling": "mean"},
        "lineage": {"experiences": ["c1"]},
        "metrics": {"accuracy": 0.9},
        "golden": {"graph": {"inputs": ["input_ids", "attention_mask"],
                             "outputs": {"logits": [None, 2], "projection": [None, 32]}}},
    }  # fmt: skip
    return {**value, **changes}


def stage(root: Path, name: str, *, promoted: bool | None = True, keeps: bool = False) -> Path:
    """Write the folder of a finished challenger; one that `keeps` was not worth the change."""
    folder = root / "state" / "cycles" / name / "version"
    (folder / "onnx").mkdir(parents=True)
    (folder / "checkpoint").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(f"model of {name} ".encode() * 200)
    (folder / "onnx" / "tokenizer.json").write_text("{}")
    (folder / "checkpoint" / "head.safetensors").write_bytes(b"head" * 50)
    if promoted is not None:
        outcome = {"rule": "gain", "passed": promoted, "message": "no better than guesses"}
        if keeps:
            outcome["keeps"] = True
        (folder / "decision.json").write_text(
            json.dumps({"promoted": promoted, "outcomes": [outcome]})
        )
    return folder


def register(
    registry: Registry,
    name: str,
    *,
    promoted: bool | None = True,
    keeps: bool = False,
    parent: int | None = None,
    anchor: int | None = None,
):
    staged = stage(registry.workspace.root, name, promoted=promoted, keeps=keeps)
    lineage = {"experiences": ["c1"], "anchor": anchor}
    known = facts(lineage=lineage) if anchor else facts()
    return registry.register(staged, cycle_id=name, parent=parent, facts=known)


def promoted(registry: Registry, *names: str) -> None:
    """Register and promote, one after the other."""
    for name in names:
        version = register(registry, name, parent=registry.champion())
        promote(registry, version.version, actor="ada", reason=f"cycle {name}")


def serving_state(registry: Registry) -> dict:
    """What stands in the serving directory, as a reader sees it."""
    import os

    root = registry.serving.root
    pointer = registry.serving.read_pointer()
    return {
        "pointer": None if pointer is None else (pointer.version, pointer.epoch),
        "link": os.readlink(root / "current") if (root / "current").is_symlink() else None,
        "config": (root / "config.pbtxt").read_text() if (root / "config.pbtxt").exists() else None,
    }
