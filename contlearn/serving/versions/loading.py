"""Loading a version beside the one that answers, without holding it up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.errors import ServingError
from contlearn.interfaces import FieldNames

if TYPE_CHECKING:
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.plugins.manager import PluginManager

__all__ = ["LOAD_NICE", "CheckedLoader"]

# Priority of a thread that loads beside a busy model: low enough that answers stay quick, high
# enough that a server with no idle core takes a version up in seconds.
LOAD_NICE: Final = 5


class CheckedLoader:
    """Loads version folders, and answers their golden inputs before anybody else's.

    The tokenizer of the last version is kept: versions of one lineage share it, and parsing it
    holds Python's lock for tens of milliseconds, in which no request is answered.

    Args:
        manager: Knows the tasks.
        intra_threads: Cores that one run is spread over.
        public_key: Versions must be signed by the holder of this key, where one is given.
    """

    def __init__(
        self, manager: PluginManager, intra_threads: int = 1, public_key: Path | None = None
    ) -> None:
        self._manager = manager
        self._public_key = public_key
        self._intra_threads = intra_threads
        self._tokenizer: tuple[str, Any] | None = None

    def __call__(self, folder: Path) -> OnnxPredictor:
        """Load a folder. One thread for each call: the server's workers are the threads.

        Raises:
            ServingError: When the files are not as written, or the answers are not.
            RegistryError: When the version is not signed, and has to be.
        """
        from contlearn.inference.golden import check_golden
        from contlearn.inference.manifest import served_files
        from contlearn.inference.predictor import OnnxPredictor
        from contlearn.papers.manifest import find_manifest, read_manifest

        if self._public_key is not None:
            from contlearn.inference.signature import require_signature

            require_signature(folder, self._public_key)
        manifest = read_manifest(find_manifest(folder))
        digest = str(served_files(manifest).get("tokenizer.json", {}).get("sha256", ""))
        known = self._tokenizer
        predictor = OnnxPredictor.load(
            folder,
            manager=self._manager,
            threads=1,
            intra_threads=self._intra_threads,
            verify=True,
            tokenizer=known[1] if known is not None and digest and known[0] == digest else None,
        )
        self._tokenizer = (digest, predictor.tokenizer)
        # The first answer brings in what is imported late; no request should wait for that.
        predictor.predict([predictor.task.read_inputs("Is this thing on?", FieldNames())])
        golden = manifest.golden
        # The fp32 twin of an int8 model cannot repeat its digits; that it answers is enough.
        if golden is not None and golden.get("precision") == predictor.precision:
            problems = check_golden(predictor, golden)
            if problems:
                predictor.close()
                raise ServingError(
                    f"The model does not answer as it did when it was proven: {problems[0]}.",
                    where=str(folder),
                    hint="Roll back to another version; `contlearn verify` looks at the files.",
                )
        return predictor
