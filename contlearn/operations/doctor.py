"""Checks of the machine, the packages and the workspace, without importing anything heavy."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contlearn.config import CONFIG_FILE
from contlearn.errors import ContlearnError
from contlearn.redaction import redact, secrets_in

if TYPE_CHECKING:
    from contlearn.context import Context

__all__ = ["Check", "examine", "examine_workspace"]

_MOST_LOOKED_AT: Final = 2_000

_TRAIN: Final = ("torch", "torchvision", "transformers", "avalanche-lib", "onnx")
# What needs transformers 4.57; under 5 there is none of it.
_TRAIN_4: Final = ("optimum-onnx", "adapters")
_BASE: Final = ("onnxruntime", "tokenizers", "SQLAlchemy")
_INGEST: Final = ("pyarrow", "datasketch")
_SERVE: Final = ("starlette", "uvicorn")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: whether it is well (None: not needed), what was found, what to do."""

    name: str
    ok: bool | None
    found: str
    hint: str = ""

    def to_json(self) -> dict[str, object]:
        """Give the check as JSON."""
        return {"name": self.name, "ok": self.ok, "found": self.found, "hint": self.hint}


def examine(root: Path, *, plugins_dir: Path | None = None) -> list[Check]:
    """Look at Python, packages that must fit together, processor, memory, disk, workspace."""
    checks = [
        Check(
            "python", sys.version_info >= (3, 11), platform.python_version(), "Use 3.11 or newer."
        )
    ]
    checks += [_package(name, needed=True, extra="") for name in _BASE]
    checks += [_package(name, needed=False, extra="ingest") for name in _INGEST]
    checks += [_package(name, needed=False, extra="serve") for name in _SERVE]
    checks += [_package(name, needed=False, extra="train") for name in _TRAIN]
    if not (_found("transformers") or "").startswith("5."):
        checks += [_package(name, needed=False, extra="train") for name in _TRAIN_4]
    checks.append(_pair())
    checks.append(_training_imports())
    checks.append(_transformers_major())
    checks.append(_processor())
    checks.append(_memory())
    free = shutil.disk_usage(root if root.exists() else Path()).free
    checks.append(
        Check("disk", free > 2e9, f"{free / 1e9:.0f} GB free", "Keep 2 GB free for an update.")
    )
    checks += examine_workspace(root, plugins_dir=plugins_dir)
    return checks


def _found(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _package(name: str, *, needed: bool, extra: str) -> Check:
    found = _found(name)
    if found is not None:
        return Check(name, True, found)
    hint = f'pip install "contlearn[{extra}]"' if extra else f"pip install {name}"
    return Check(name, False if needed else None, f"not installed ({hint})", hint)


def _pair() -> Check:
    """A torchvision built for another torch breaks the import of transformers itself."""
    torch, vision = _found("torch"), _found("torchvision")
    if torch is None or vision is None:
        return Check("torch and torchvision", None, "not both installed")
    torch_minor = re.match(r"2\.(\d+)", torch)
    vision_minor = re.match(r"0\.(\d+)", vision)
    # torchvision 0.(n + 15) is built for torch 2.n.
    fits = bool(
        torch_minor and vision_minor and int(vision_minor[1]) == int(torch_minor[1]) + 15
    ) and (("+cpu" in torch) == ("+cpu" in vision))
    return Check(
        "torch and torchvision",
        fits,
        f"{torch} and {vision}",
        "Install the pair of one release and one kind: torch 2.14.1 with torchvision 0.29.1, both "
        "from the same index. A CPU-only torch beside the registry's torchvision fails with "
        "'operator torchvision::nms does not exist'.",
    )


def _training_imports() -> Check:
    if _found("torch") is None:
        return Check("training imports", None, "torch is not installed")
    code = "import transformers.models.bert.modeling_bert, torchvision"
    end = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180
    )
    last = (end.stderr.strip().splitlines() or [""])[-1]
    return Check(
        "training imports",
        end.returncode == 0,
        "torch, torchvision and transformers import together" if end.returncode == 0 else last,
        "Reinstall torch and torchvision as one pair; see the check above.",
    )


def _transformers_major() -> Check:
    """Say which of the two majors is in use, and what cannot be done with it."""
    name, found = "transformers version", _found("transformers")
    if found is None:
        return Check(name, None, "not installed")
    if found.startswith("4.57."):
        return Check(name, True, f"{found} (as [train])")
    if found.startswith("5."):
        misfits = [package for package in _TRAIN_4 if _found(package) is not None]
        if misfits:
            return Check(
                name,
                False,
                f"{found} beside {' and '.join(misfits)}, which need 4.57",
                "[train] and [train5] do not go together: make an environment for each.",
            )
        return Check(
            name,
            True,
            f"{found} (as [train5]): no bottleneck adapters, exports are not loaded with optimum",
            'An environment with "contlearn[train]" (4.57) has both; a workspace goes on in it.',
        )
    return Check(
        name,
        False,
        found,
        "contlearn runs on transformers 4.57 ([train]) and 5 ([train5]).",
    )


def _processor() -> Check:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return Check("processor", None, platform.machine())
    flags = set(re.findall(r"\b(avx2|avx512f|avx512_vnni|avx_vnni|amx_int8)\b", text))
    fast = bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})
    return Check(
        "processor",
        True,
        f"{os.cpu_count()} cores, {' '.join(sorted(flags)) or 'no vector extensions known here'}"
        + ("" if fast else "; without VNNI models are served in fp32"),
    )


def _memory() -> Check:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Check(
        "memory", pages > 3e9, f"{pages / 1e9:.0f} GB", "Training a small BERT takes about 2 GB."
    )


def _room(context: Context) -> Check:
    """Say whether the next update fits, as the update itself will ask before it starts."""
    from contlearn.cycle.disk import disk_state

    state = disk_state(context)
    return Check(
        "room for an update",
        not state.missing,
        f"{state.needed / 1e6:,.0f} MB needed, {state.free / 1e6:,.0f} MB free, of which "
        f"{state.reserve / 1e6:,.0f} MB stay free",
        f"{state.missing / 1e6:,.0f} MB are missing: free that much, or lower retention.versions.",
    )


def _base(context: Context) -> Check:
    """Look at the configured base model: whether it is here, who saved it, and whether it goes."""
    from contlearn.operations.base import try_base

    name = context.config.model.base
    try:
        look = try_base(name)
    except ContlearnError as error:
        return Check("base model", False, error.what, error.hint or "")
    longest = context.config.model.max_tokens
    if look.limit is not None and longest > look.limit:
        return Check(
            "base model",
            False,
            f"model.max_tokens is {longest}, but {name} reads at most {look.limit} pieces",
            f"Set model.max_tokens to {look.limit} or less, or choose another base model.",
        )
    # A note is no problem: it says what nobody could check.
    return Check("base model", None if look.notes else True, " ".join((name, *look.notes)))


def _same_model(context: Context) -> Check:
    """Hold the keys that describe the model against the champion."""
    from contlearn.cycle.same_model import check_same_model

    name = "configuration and champion"
    if context.registry.champion() is None:
        return Check(name, None, "no champion yet")
    try:
        notes = check_same_model(context, context.config.training.strategy)
    except ContlearnError as error:
        return Check(name, False, error.what, error.hint or "")
    return Check(name, None if notes else True, " ".join(notes) or "they fit")


def examine_workspace(root: Path, *, plugins_dir: Path | None = None) -> list[Check]:
    """Look at the workspace alone: its configuration, its catalog, its champion."""
    if not (root / CONFIG_FILE).exists():
        return [Check("workspace", None, f"{root.absolute()} is not one")]
    from contlearn.context import Context

    try:
        with Context.open(root, plugins_dir=plugins_dir) as context:
            checks = [Check("configuration", True, str(context.workspace.config_file))]
            with context.catalog.read():
                checks.append(Check("catalog", True, redact(context.catalog.place)))
            checks += [
                _plugins(context),
                _kept_secrets(context),
                _room(context),
                _base(context),
                _same_model(context),
            ]
            champion = context.registry.champion()
            problems = context.registry.verify(champion) if champion is not None else []
            checks.append(
                Check(
                    "champion",
                    not problems if champion is not None else None,
                    f"version {champion}" if champion is not None else "none yet",
                    "; ".join(str(problem) for problem in problems),
                )
            )
            return checks
    except ContlearnError as error:
        return [Check("workspace", False, error.what, error.hint or "")]


def _plugins(context: Context) -> Check:
    """Say which plugins are broken."""
    broken = context.manager.failures
    return Check(
        "plugins",
        not broken,
        " ".join(map(str, broken)) or "none is broken",
        "Repair or remove them, or block them with [plugins] blocked in contlearn.toml.",
    )


def _kept_secrets(context: Context) -> Check:
    """Look for passwords that an earlier contlearn wrote down, and that are in force still."""
    folders = (context.workspace.versions, context.workspace.serving(context.config))
    places = [path for folder in folders for path in folder.glob("[0-9]*/manifest.json")]
    places += context.workspace.cycles.glob("*/job.json")
    in_force = secrets_in(context.config.model_dump(mode="json"))
    found = []
    for path in sorted(places)[-_MOST_LOOKED_AT:] if in_force else ():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            value = json.loads(path.read_bytes())
            kept = value.get("config") or value.get("lineage", {}).get("config") or {}
            if secrets_in(kept) & in_force:
                found.append(context.workspace.named(path))
    if not found:
        return Check("kept secrets", True, "no password of contlearn.toml stands in other files")
    shown = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if found[10:] else "")
    return Check(
        "kept secrets",
        False,
        f"{len(found)} files hold a password that is in force: {shown}",
        "An earlier contlearn wrote them, and they cannot be changed without making the versions "
        "look damaged: change the password or token where it is given out, and in contlearn.toml.",
    )
