"""What is derived from current.json: the folder link for people, config.pbtxt for Triton."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.papers.manifest import Manifest
from contlearn.workspace import FileOperations, storage_border

__all__ = ["CONFIG", "LINK", "derive_pointers", "render_config"]

LINK: Final = "current"
CONFIG: Final = "config.pbtxt"


def derive_pointers(root: Path, manifest: Manifest, *, files: FileOperations) -> bool:
    """Write `config.pbtxt` and the link `current` for a version, where they differ.

    Args:
        root: The serving directory of the model; its name is the model's.
        manifest: Of the version served.
        files: How files are changed.
    Returns:
        Whether anything had to be written.
    """
    number = str(manifest.version)
    changed = False
    text = render_config(root.name, manifest).encode()
    with storage_border("write the serving directory", root):
        config = root / CONFIG
        if not config.is_file() or config.read_bytes() != text:
            fresh = root / f".{CONFIG}.{uuid.uuid4().hex[:8]}.tmp"
            files.write(fresh, text)
            files.rename(fresh, config)
            changed = True
        link = root / LINK
        if not link.is_symlink() or os.readlink(link) != number:  # noqa: PTH115  # the text itself
            # Made beside and renamed over: unlinking first would leave a moment without it.
            fresh = root / f".{LINK}.{uuid.uuid4().hex[:8]}.tmp"
            files.symlink(number, fresh)
            files.rename(fresh, link)
            changed = True
        if changed:
            files.fsync_folder(root)
    return changed


def render_config(name: str | None, manifest: Manifest, *, filename: str | None = None) -> str:
    """Write Triton's description of an encoder that serves exactly one version.

    Without the specific policy Triton serves the highest number, and a rollback would be ignored.
    8-bit graphs take one text at a time: in a batch, the texts beside it would change its answer.
    Source: triton-inference-server/server, docs/user_guide/model_configuration.md.

    Args:
        name: Of the model; without it Triton takes the folder's.
        manifest: Of the version.
        filename: The model's file in the version's folder, where it is not model.onnx.
    """
    model, given = manifest.model, manifest.model.to_json()
    graph = (manifest.golden or {}).get("graph") or {}
    labels = len(model.labels)
    inputs = graph.get("inputs") or ["input_ids", "attention_mask"]
    outputs: Mapping[str, Any] = graph.get("outputs") or {"logits": [None, labels]}
    alone = model.precision == "int8"
    kind = {"int8": "KIND_CPU", "fp16": "KIND_GPU"}.get(str(model.precision))
    lines = [
        *([f"name: {json.dumps(name)}"] if name is not None else []),
        'backend: "onnxruntime"',
        *([f"default_model_filename: {json.dumps(filename)}"] if filename is not None else []),
        f"max_batch_size: {1 if alone else 32}",
        "input [",
        ",\n".join(
            f'  {{ name: "{item}", data_type: TYPE_INT64, dims: [ -1 ] }}' for item in inputs
        ),
        "]",
        "output [",
        ",\n".join(
            f'  {{ name: "{item}", data_type: TYPE_FP32, dims: [ {_dims(shape)} ] }}'
            for item, shape in outputs.items()
        ),
        "]",
        f"version_policy {{ specific {{ versions: [ {manifest.version} ] }} }}",
        *([] if alone else ["dynamic_batching { max_queue_delay_microseconds: 2000 }"]),
        *([f"instance_group [ {{ kind: {kind} }} ]"] if kind else []),
        *(
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(str(given[key]))} }} }}'
            for key in ("task", "max_tokens", "temperature", "precision")
            if key in given
        ),
    ]
    return "\n".join(lines) + "\n"


def _dims(shape: list[Any]) -> str:
    return ", ".join(str(size) if isinstance(size, int) else "-1" for size in shape[1:])
