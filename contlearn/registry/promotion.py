"""Promotion and rollback: the same code, only the target differs.

In order, each step safe to be killed in: lock, mend, verify, intent in the journal, copy into the
serving directory, load in a child and compare the golden answers, rename `current.json` (the
commit), derive `current` and `config.pbtxt`, commit in the journal.
"""

from __future__ import annotations

from typing import Final

from contlearn.errors import ChampionChanged, RegistryError, StorageError
from contlearn.inference.manifest import (
    ONNX_FOLDER,
    SIGNATURE,
    check_files,
    digest_file,
    served_files,
)
from contlearn.papers.decision import DECISION, read_decision
from contlearn.papers.journal import CHANGES, JournalRecord
from contlearn.papers.manifest import MANIFEST, read_manifest
from contlearn.papers.pointer import POINTER, Pointer
from contlearn.registry.origin import Origin
from contlearn.registry.pointers import derive_pointers
from contlearn.registry.retention import finish_deletions
from contlearn.registry.serving_copy import copy_problems
from contlearn.registry.versions import ModelVersion, Registry
from contlearn.workspace import storage_border

__all__ = ["promote", "recover", "rollback"]

# What an intent and its commit both say.
_FACTS: Final = ("epoch", "version", "previous", "actor", "origin", "reason", "force", "below")


def promote(
    registry: Registry,
    version: int,
    *,
    actor: str,
    reason: str,
    origin: Origin = "hand",
    force: bool = False,
    dry_run: bool = False,
    seen: int | None = None,
) -> ModelVersion:
    """Make a version champion.

    Args:
        registry: Where it is.
        version: Its number; promoting the champion again changes nothing.
        actor: Who does it; kept in the journal.
        reason: Why; kept in the journal.
        origin: Whether a person, a cycle or the daemon does it; kept in the journal.
        force: Promote a version that the gate refused.
        dry_run: Check everything, change nothing.
        seen: `Registry.epoch` when it was decided, for a caller that waited since.
    Returns:
        The version.
    Raises:
        RegistryError: When it is missing, damaged (each file by name), refused by the gate, or
            gives wrong golden answers.
        ChampionChanged: When another process promoted meanwhile.
        WorkspaceLocked: When another process is promoting.
        StorageError: When the disk is full or may not be written; the champion stays as it is.
    """
    seen = registry.epoch() if seen is None else seen
    with registry.lock("promoting a version", wait_seconds=0.0):
        before = _begin(registry, seen, dry_run=dry_run)
        target = registry.get(version)
        _require_whole(registry, version)
        why = None if force else _refusal(target)
        if why is not None:
            raise RegistryError(
                f"Version {version} was refused: {why}",
                where=str(target.path / DECISION),
                hint="Add --force with a --reason to promote it all the same.",
            )
        if not dry_run and (before is None or before.version != version):
            top = registry.last_change()
            _change(
                registry,
                target,
                before,
                kind="promote",
                below=None if top is None else top.number,
                actor=actor,
                origin=origin,
                reason=reason,
                force=force,
            )
    return target


def rollback(
    registry: Registry,
    *,
    to: int | None = None,
    actor: str,
    reason: str,
    origin: Origin = "hand",
    dry_run: bool = False,
    seen: int | None = None,
) -> ModelVersion:
    """Go back to the former champion, or to one named; a second one goes further back.

    Args:
        registry: Where they are.
        to: The version to go back to.
        actor: Who does it; kept in the journal.
        reason: Why; kept in the journal.
        origin: Whether a person, a cycle or the daemon does it; kept in the journal.
        dry_run: Check everything, change nothing.
        seen: `Registry.epoch` when it was decided: of two people who go back at once, one does.
    Raises:
        RegistryError: When there is nothing to go back to, or `to` was never served; else as
            `promote`.
    """
    seen = registry.epoch() if seen is None else seen
    with registry.lock("promoting a version", wait_seconds=0.0):
        before = _begin(registry, seen, dry_run=dry_run)
        number, below = _way_back(registry, to)
        target = registry.get(number)
        _require_whole(registry, target.version)
        if not dry_run:
            _change(
                registry,
                target,
                before,
                kind="rollback",
                below=below,
                actor=actor,
                origin=origin,
                reason=reason,
                force=False,
            )
    return target


def recover(registry: Registry) -> list[str]:
    """Finish or undo what a killed writer left half done. Doing it twice changes nothing more.

    Returns:
        What was done, in words; nothing when all was well.
    Raises:
        WorkspaceLocked: When another process is at work.
        StorageError: When the disk is full or may not be written.
    """
    with registry.lock("promoting a version"):
        return _mend(registry)


def _begin(registry: Registry, seen: int, *, dry_run: bool) -> Pointer | None:
    """Mend what was left half done, and see that nobody was faster since `seen` was read."""
    if registry.epoch() != seen:
        raise ChampionChanged(
            f"Another process made version {registry.champion()} the champion meanwhile.",
            where=str(registry.serving.root),
            hint="Look at `contlearn status`, then decide again.",
        )
    if not dry_run:
        _mend(registry)
    return _pointer_or_none(registry)


def _way_back(registry: Registry, to: int | None) -> tuple[int, int | None]:
    """Give the version that a rollback goes back to, and the record that will stand below it."""
    back = registry.changes_back()
    top = next(back, None)
    journal = str(registry.workspace.versions / "events.jsonl")
    if to is None:
        below = next(back, None)
        if below is None:
            raise RegistryError(
                "There is no former champion to go back to.",
                where=journal,
                hint="`contlearn history` shows what was promoted when.",
            )
        return below.version, below.below
    if to == registry.champion():
        raise RegistryError(
            f"Version {to} is the champion already.",
            where=journal,
            hint="`contlearn history` shows what was promoted when.",
        )
    registry.get(to)
    for record in back:
        if record.version == to:
            return to, record.below
    if top is None or all(registry.journal.find_last(kind, version=to) is None for kind in CHANGES):
        raise RegistryError(
            f"Version {to} was never served, so there is no way back to it.",
            where=journal,
            hint=f"`contlearn promote {to}` makes it champion if the gate let it pass.",
        )
    # It was served, and rolled back over since: going there is a step forward.
    return to, top.number


def _change(
    registry: Registry,
    target: ModelVersion,
    before: Pointer | None,
    *,
    kind: str,
    below: int | None,
    actor: str,
    origin: Origin,
    reason: str,
    force: bool,
) -> None:
    number = target.version
    last = registry.last_change()
    epoch = max(before.epoch if before else 0, last.epoch if last else 0) + 1
    previous = before.version if before else None
    facts = {
        "epoch": epoch,
        "version": number,
        "previous": previous,
        "actor": actor,
        "origin": origin,
        "reason": reason,
        "force": force,
        "below": below,
    }
    registry.journal.append("intent", kind=kind, **facts)
    _bring(registry, number)
    problems = registry.preflight(registry.serving.root / str(number))
    if problems:
        why = "; ".join(problems)
        registry.journal.append("abandon", **facts, why=why)
        raise RegistryError(
            f"Version {number} cannot be served: {why}.",
            where=str(registry.serving.root / str(number)),
            hint="The champion is unchanged. Try `python -m contlearn.inference check` on the "
            "folder, or update again.",
        )
    pointer = Pointer(
        version=number,
        epoch=epoch,
        sha256=digest_file(target.path / MANIFEST),
        at=registry.clock.now().isoformat(),
    )
    registry.serving.compare_and_set_pointer(before, pointer)
    # From here on the promotion has happened; a kill is mended forwards.
    derive_pointers(registry.serving.root, target.manifest, files=registry.files)
    registry.journal.append(kind, **facts, since=pointer.at)


def _bring(registry: Registry, number: int) -> None:
    """Have a whole copy of the version in the serving directory: files, never links."""
    serving, files = registry.serving, registry.files
    if serving.folder(str(number)) is None and (serving.root / str(number)).is_symlink():
        serving.set_aside(str(number))
    if serving.folder(str(number)) is not None:
        if not copy_problems(registry, number, None):
            return
        serving.set_aside(str(number))
    source = registry.workspace.versions / str(number)
    staged = serving.staging(str(number))
    manifest = read_manifest(source / MANIFEST)
    with storage_border(f"copy version {number} to the serving directory", staged):
        files.make_folder(staged)
        for name in served_files(manifest):
            if "/" in name:
                files.make_folder((staged / name).parent)
            files.copy(source / ONNX_FOLDER / name, staged / name)
        files.copy(source / MANIFEST, staged / MANIFEST)
        if (source / SIGNATURE).exists():
            files.copy(source / SIGNATURE, staged / SIGNATURE)
    problems = check_files(staged, served_files(manifest))
    if problems:
        raise RegistryError(
            f"Copying version {number} went wrong: {'; '.join(problems)}.",
            where=str(staged),
            hint="Check the disk, then try again; the champion is unchanged.",
        )
    serving.publish(staged, str(number))


def _refusal(version: ModelVersion) -> str | None:
    """Say why the gate does not let a version pass; None when it passed."""
    if not (version.path / DECISION).exists():
        return "it was never judged by the gate"
    decision = read_decision(version.path)
    if decision.verdict != "refused":
        return None  # nothing speaks against one that was not worth the change
    failed = " ".join(outcome.message or outcome.rule for outcome in decision.refusals)
    return failed or "the gate did not let it pass"


def _require_whole(registry: Registry, number: int) -> None:
    problems = registry.verify(number)
    if problems:
        raise RegistryError(
            f"Version {number} is damaged: {'; '.join(problems)}.",
            where=str(registry.workspace.versions / str(number)),
            hint="It is not promoted. Choose another version (`contlearn history`), or restore "
            "the folder from a backup.",
        )


def _pointer_or_none(registry: Registry) -> Pointer | None:
    try:
        return registry.serving.read_pointer()
    except StorageError:
        return None


def _mend(registry: Registry) -> list[str]:
    """Recover under the lock: journal, pointer, open intent, copies, leavings."""
    actions = registry.adopt()
    actions += finish_deletions(registry)
    last = registry.last_change()
    intent = registry.journal.find_last("intent")
    pointer = _pointer_or_none(registry)
    if intent is not None and not _is_closed(registry, intent):
        facts = {name: getattr(intent, name) for name in _FACTS}
        meant = (intent.epoch, intent.version)
        if pointer is not None and (pointer.epoch, pointer.version) == meant:
            version = registry.get(intent.version)
            derive_pointers(registry.serving.root, version.manifest, files=registry.files)
            # `at` will be the time of mending; the version is live since the pointer was renamed.
            registry.journal.append(intent.kind, **facts, since=pointer.at)
            actions.append(f"the promotion of version {intent.version} was finished")
        else:
            registry.journal.append("abandon", **facts, why="interrupted before the commit")
            actions.append(f"the promotion of version {intent.version} was undone")
        last = registry.last_change()
    if pointer is None and last is not None:
        actions.append(_rewrite_pointer(registry, last))
        pointer = _pointer_or_none(registry)
    if pointer is not None:
        actions += _mend_copy(registry, pointer, deep=bool(actions))
    # Retention, which reads the whole directory anyway, cleans the registry after every cycle; here
    # it is looked through only where a writer was interrupted: there may be 10 000 versions.
    newest = next(registry.journal.back(), None)
    if actions or (newest is not None and newest.event == "delete"):
        actions += [f"versions/{left} was cleaned up" for left in registry.store.clean()]
    actions += [f"serving/{left} was cleaned up" for left in registry.serving.clean()]
    return actions


def _rewrite_pointer(registry: Registry, last: JournalRecord) -> str:
    """Write a lost current.json again, from the newest promotion in the journal."""
    number = last.version
    try:
        _bring(registry, number)
        digest = digest_file(registry.workspace.versions / str(number) / MANIFEST)
    except (RegistryError, StorageError, OSError) as error:
        # A pointer that cannot be read must not stand in the way of the next promotion.
        registry.files.unlink(registry.serving.root / POINTER)
        return f"current.json is lost, and version {number} cannot be served again: {error}"
    registry.files.unlink(registry.serving.root / POINTER)
    registry.serving.compare_and_set_pointer(
        None, Pointer(version=number, epoch=last.epoch, sha256=digest, at=last.since)
    )
    return "current.json was written again from the journal"


def _mend_copy(registry: Registry, pointer: Pointer, *, deep: bool) -> list[str]:
    """See that the champion's copy is there, and that the derived pointers agree with it.

    Sizes are compared always, contents after an interruption; a server checks contents itself.
    """
    number = pointer.version
    folder = registry.serving.root / str(number)
    actions = []
    try:
        manifest = read_manifest(folder / MANIFEST)
        problems = check_files(folder, served_files(manifest), digests=deep)
        if digest_file(folder / MANIFEST) != pointer.sha256:
            problems.append(f"{MANIFEST} was changed")
        if folder.is_symlink():
            problems.append("it is a link")
    except (OSError, RegistryError, StorageError):
        problems = [f"{MANIFEST} cannot be read"]
    if problems and registry.store.folder(str(number)) and not registry.verify(number):
        if folder.exists() or folder.is_symlink():
            registry.serving.set_aside(str(number))
        _bring(registry, number)
        manifest = read_manifest(folder / MANIFEST)
        actions.append(f"the served copy of version {number} was made again: {problems[0]}")
        problems = []
    if not problems and derive_pointers(registry.serving.root, manifest, files=registry.files):
        actions.append(f"current and config.pbtxt point to version {number} again")
    return actions


def _is_closed(registry: Registry, intent: JournalRecord) -> bool:
    """Say whether an intent was committed or abandoned. Only the newest intent can be open."""
    newest = next(registry.journal.back(*CHANGES, "abandon", "intent"), intent)
    return newest.number > intent.number
