"""What the processor can do, as far as 8-bit arithmetic depends on it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["available_cores", "has_safe_int8", "processor_features"]

# Without VNNI, U8S8 products saturate in 16 bits, so that int8 answers differ between processors.
# Source: onnxruntime, docs/performance/model-optimizations/quantization.md.
_FEATURES: Final = (
    "amx_int8",
    "asimddp",
    "avx2",
    "avx512_vnni",
    "avx512bw",
    "avx512f",
    "avx_vnni",
    "i8mm",
    "sve",
)
# These add 8-bit products in 32 bits; others saturate in 16.
_SAFE: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
# Names the features in place of /proc/cpuinfo: for fleets of several kinds, and to try a fall-back.
_VARIABLE: Final = "CONTLEARN_PROCESSOR_FEATURES"


def has_safe_int8(features: Iterable[str]) -> bool:
    """Say whether 8-bit products are exact on a processor with these features.

    Example:
        >>> has_safe_int8(("avx2", "avx512_vnni")), has_safe_int8(("avx2",))
        (True, False)
    """
    return not _SAFE.isdisjoint(features)


def processor_features(cpuinfo: str | None = None) -> tuple[str, ...]:
    """Give the features of this processor that int8 arithmetic depends on, sorted.

    Args:
        cpuinfo: The text of /proc/cpuinfo; if left out, what CONTLEARN_PROCESSOR_FEATURES lists
            (by commas), else this machine's.
    Example:
        >>> processor_features("flags : fpu sse2 avx2 avx512_vnni")
        ('avx2', 'avx512_vnni')
    """
    if cpuinfo is None and _VARIABLE in os.environ:
        cpuinfo = "flags: " + os.environ[_VARIABLE].replace(",", " ")
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            there = set(value.split())
            return tuple(feature for feature in _FEATURES if feature in there)
    return ()


def available_cores() -> int:
    """Give the cores this process may use: affinity and the control group's quota count.

    onnxruntime's own thread pools ignore the quota (microsoft/onnxruntime#29510).
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
    return cores
