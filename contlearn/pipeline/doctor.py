"""Checks of the machine, the packages and the workspace, without importing anything heavy."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from contlearn.pipeline.context import Context

__all__ = ["Check", "examine"]

_TRAIN: Final = ("torch", "torchvision", "transformers", "avalanche-lib", "optimum-onnx", "onnx")
_BASE: Final = ("onnxruntime", "tokenizers", "pyarrow", "SQLAlchemy")
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
    checks += [_package(name, needed=False, extra="serve") for name in _SERVE]
    checks += [_package(name, needed=False, extra="train") for name in _TRAIN]
    checks.append(_pair())
    checks.append(_training_imports())
    checks.append(_transformers_pin())
    checks.append(_processor())
    checks.append(_memory())
    free = shutil.disk_usage(root if root.exists() else Path()).free
    checks.append(
        Check("disk", free > 2e9, f"{free / 1e9:.0f} GB free", "Keep 2 GB free for an update.")
    )
    checks += _workspace(root, plugins_dir)
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


def _transformers_pin() -> Check:
    found = _found("transformers")
    if found is None:
        return Check("transformers version", None, "not installed")
    return Check(
        "transformers version",
        found.startswith("4.57."),
        found,
        "optimum-onnx 0.1 needs transformers below 4.58: pip install 'transformers~=4.57.6'.",
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
    from contlearn.pipeline.housekeeping import disk_state

    state = disk_state(context)
    return Check(
        "room for an update",
        not state.missing,
        f"{state.needed / 1e6:,.0f} MB needed, {state.free / 1e6:,.0f} MB free, of which "
        f"{state.reserve / 1e6:,.0f} MB stay free",
        f"{state.missing / 1e6:,.0f} MB are missing: free that much, or lower retention.versions.",
    )


def _workspace(root: Path, plugins_dir: Path | None) -> list[Check]:
    if not (root / CONFIG_FILE).exists():
        return [Check("workspace", None, f"{root.absolute()} is not one")]
    from contlearn.pipeline.context import Context

    try:
        with Context.open(root, plugins_dir=plugins_dir) as context:
            checks = [Check("configuration", True, str(context.workspace.config_file))]
            with context.catalog.read():
                checks.append(Check("catalog", True, context.config.storage.catalog))
            checks.append(_room(context))
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
