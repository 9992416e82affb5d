"""Which encoding bytes are in that are not UTF-8: a guess, and the command that converts them."""

from __future__ import annotations

from typing import Final

__all__ = ["INNER_MARK", "EncodingGuess"]

# What is said of a byte order mark that begins another line than the first.
INNER_MARK: Final = (
    "byte-order-mark",
    "A byte order mark stands within the file, as where files were put together; it is left out.",
)
_SAMPLE: Final = 1 << 16
# What people's files are in; a detector that may choose among all code pages likes the rare ones.
_PLAUSIBLE: Final = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r",
    "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
]  # fmt: skip
_NAMES: Final = {
    "euc_jp": "EUC-JP",
    "euc_kr": "EUC-KR",
    "koi8_r": "KOI8-R",
    "shift_jis": "SHIFT-JIS",
}
# Short texts in Latin letters say too little for statistics: the letters themselves decide.
_SIGNS: Final = "«»“”„‘’‚–—…°§£€©®·¡¿ªº"
_LATIN: Final = (
    ("cp1252", "äöüßÄÖÜéèêëàâçîïôûùœæåøñáíóúÉÈÀÇÑãõìòýÅØÆÊÎÔÁÍÓÚÃÕ" + _SIGNS),
    ("cp1254", "çğıöşüÇĞİÖŞÜâîûÂ" + _SIGNS),
    ("cp1250", "ąćęłńóśźżáčďéěíňřšťúůýžäĺľôŕőűâăîşţöüßĄĆĘŁŃŚŹŻÁČĎÉĚÍŇŘŠŤÚŮÝŽŐŰÓÖÜ" + _SIGNS),
)


class EncodingGuess:
    """Guesses once for a file, from the bytes that are not UTF-8.

    Args:
        sample: The beginning of the file.
    """

    def __init__(self, sample: bytes = b"") -> None:
        self._sample = sample
        self._guess: str | None = None

    def hint(self, data: bytes) -> str:
        """Say what the bytes look like, and how the file is converted.

        Args:
            data: Some of those that are not UTF-8.
        """
        if self._guess is None:
            self._guess = _guess(b"\n".join([data[:_SAMPLE], *_bad_lines(self._sample)]))
        return (
            f"It looks like {self._guess}. "
            f"Convert the file: iconv -f {self._guess} -t UTF-8 OLD > NEW"
        )


def _bad_lines(sample: bytes) -> list[bytes]:
    found = []
    # The last line may be cut in the middle of a character.
    for line in sample.split(b"\n")[:-1]:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            found.append(line)
    return found


def _guess(data: bytes) -> str:
    """Name the encoding.

    Example:
        >>> _guess("Grüße aus Köln".encode("cp1252")), _guess("příliš žluťoučký".encode("cp1250"))
        ('WINDOWS-1252', 'WINDOWS-1250')
    """
    for encoding, letters in _LATIN:
        try:
            found = [c for c in data.decode(encoding) if not c.isascii()]
        except UnicodeDecodeError:
            continue
        if found and sum(c in letters for c in found) >= 0.97 * len(found):
            return _named(encoding)
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE], cp_isolation=_PLAUSIBLE).best()
    return "WINDOWS-1252" if best is None else _named(best.encoding)


def _named(encoding: str) -> str:
    """Write a name as iconv knows it."""
    known = _NAMES.get(encoding)
    if known is not None:
        return known
    return "WINDOWS-" + encoding[2:] if encoding.startswith("cp125") else encoding.upper()
