"""Which strategy suits these records? The same as `contlearn bench strategies`, in ten lines.

    python examples/compare_strategies.py EXPERIENCES BASE OUTPUT

EXPERIENCES is a folder with a file of labelled rows for each experience, in the order of names.
"""

import sys
from pathlib import Path

from contlearn.benchmark import compare_strategies, stream_from_folder

result = compare_strategies(
    stream_from_folder(Path(sys.argv[1])),
    strategies=["replay", "naive+online-ewc"],
    only=True,  # without it, naive, tuned naive, frozen-head and joint are there besides
    seeds=[0],
    base=sys.argv[2],
    max_tokens=64,
    output=Path(sys.argv[3]),
)
print(result.table())
print(result.recommendation, "–", result.reason)
