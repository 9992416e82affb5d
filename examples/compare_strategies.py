"""Which strategy suits these records? The same as `contlearn bench strategies`, in ten lines.

    python examples/compare_strategies.py EXPERIENCES BASE OUTPUT

EXPERIENCES is a folder with a file of labelled rows for each experience, in the order of names.
"""

import sys
from pathlib import Path

from contlearn.benchmark import compare_strategies, stream_from_folder

stream = stream_from_folder(Path(sys.argv[1]))
result = compare_strategies(
    stream,
    strategies=["er+er-ace", "naive+online-ewc", "er@lora"],
    seeds=[0, 1, 2],
    base=sys.argv[2],
    output=Path(sys.argv[3]),
    report=print,
)
print(result.table())
print(result.recommendation, "–", result.reason)
