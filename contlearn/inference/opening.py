"""The files of a version as onnxruntime and tokenizers open them, with errors that help."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ServingError
from contlearn.inference.manifest import link_problem
from contlearn.wording import first_line

__all__ = ["damaged", "is_quantised", "load_tokenizer", "open_session"]

# Operators that only a quantised graph has.
_QUANTISED: Final = (
    b"MatMulInteger",
    b"DynamicQuantize",
    b"QLinear",
    b"QAttention",
    b"MatMulNBits",
)


def damaged(folder: Path, problems: Sequence[str]) -> ServingError:
    """Make the error for a version whose files are not what its manifest says."""
    return ServingError(
        f"The model is not as it was written: {'; '.join(problems)}.",
        where=str(folder),
        hint="Roll back to another version, or promote this one again if `contlearn verify` "
        "finds it whole in the registry.",
    )


def load_tokenizer(folder: Path) -> Any:
    """Read tokenizer.json; it neither cuts nor pads.

    Raises:
        ServingError: When the file is missing, a link, or cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    _require_plain(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # tokenizers raises bare Exception for a file it cannot read.
    except Exception as error:
        raise ServingError(
            f"tokenizer.json cannot be read: {error}",
            where=str(path),
            hint="`contlearn verify` says which files are damaged.",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def open_session(path: Path, intra_threads: int) -> Any:
    """Load a graph into onnxruntime.

    Args:
        path: Of the file.
        intra_threads: Cores that one run is spread over.
    Raises:
        ServingError: When the file is missing, a link, or cannot be loaded.
    """
    _require_plain(path)
    import onnxruntime as ort

    options = ort.SessionOptions()
    # Runs are spread over our own threads; a spinning pool beside them would only steal cores.
    options.intra_op_num_threads = intra_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # onnxruntime's errors share no base class but Exception.
    except Exception as error:
        raise ServingError(
            f"{path.name} cannot be loaded: {first_line(error)}",
            where=str(path),
            hint="`contlearn verify` says which files are damaged.",
        ) from error


def _require_plain(path: Path) -> None:
    try:
        problem = link_problem(path)
    except FileNotFoundError:
        problem = "is missing"
    if problem is not None:
        raise damaged(path.parent, [f"{path.name} {problem}"])


def is_quantised(path: Path) -> bool:
    """Say whether a graph has operators that only a quantised one has."""
    with path.open("rb") as reader, mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(name) >= 0 for name in _QUANTISED)
