"""Strategy beside strategy on one's own records. Importing this loads no torch.

Example:
    stream = stream_from_folder(Path("experiences"))
    result = compare_strategies(stream, strategies=["er"], output=Path("bench"))
    print(result.table())
"""

from __future__ import annotations

from contlearn.benchmark.compare import compare_strategies
from contlearn.benchmark.result import BenchmarkResult
from contlearn.benchmark.specs import ALWAYS, Spec, parse_spec
from contlearn.benchmark.streams import (
    Step,
    Stream,
    stream_from_folder,
    stream_from_rows,
    stream_from_workspace,
)

__all__ = [
    "ALWAYS",
    "BenchmarkResult",
    "Spec",
    "Step",
    "Stream",
    "compare_strategies",
    "parse_spec",
    "stream_from_folder",
    "stream_from_rows",
    "stream_from_workspace",
]
