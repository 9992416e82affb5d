"""Synthetic labelled texts of our own: each class has its words, everything else is common."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from pathlib import Path

TOPICS = {
    "billing": ("invoice", "refund", "charge", "receipt"),
    "shipping": ("parcel", "courier", "delivery", "tracking"),
    "returns": ("return", "exchange", "wrong", "size"),
    "account": ("password", "login", "profile", "email"),
    "garden": ("rose", "shovel", "lawn", "hedge"),
    "music": ("song", "guitar", "concert", "drum"),
}
FILLER = ("please", "my", "the", "a", "today", "again", "it", "is", "about", "help", "with", "me")
NAMES = {
    "city": ("Rome", "Lisbon", "Oslo", "Prague", "Vienna"),
    "artist": ("Ana", "Bruno", "Clara", "Dario", "Elif"),
}
WORDS = sorted(
    {w for ws in (*TOPICS.values(), *NAMES.values()) for w in ws}
    | set(FILLER)
    | {"fly", "to", "play", "by"}
)


def classified(labels, per_label, seed=0, start=0):
    """Rows of the classes, all texts different."""
    generator = random.Random(f"{seed}-{start}")
    rows = []
    for label in labels:
        for i in range(per_label):
            words = generator.sample(FILLER, 2) + generator.sample(TOPICS[label], 3)
            generator.shuffle(words)
            rows.append({"text": " ".join(words) + f" {seed}{start + i}", "label": label})
    generator.shuffle(rows)
    return rows


def tagged(types, count, seed=0):
    """Sentences with one entity each."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        kind = types[i % len(types)]
        name = generator.choice(NAMES[kind])
        lead = ["fly", "to"] if kind == "city" else ["play", "by"]
        tokens = generator.sample(FILLER, 3) + lead + [name, str(i + 1000 * seed)]
        tags = ["O"] * 5 + [f"B-{kind}", "O"]
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def write_rows(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def everything(root):
    """Give folders, links, files by hash, and the catalog's rows; locks and leases are no content."""
    files = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            files[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            files[name] = "folder"
        elif "catalog.sqlite" not in name and not path.name.endswith("lock"):
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    with sqlite3.connect(root / "state" / "catalog.sqlite") as connection:
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'"):
            if table != "leases":
                files[table] = list(connection.execute(f"select * from {table}"))
    return files
