"""Decoding of text files to lines and records: UTF-8, lines that end where the format says, JSON that says each thing once."""

import json
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError

_PIECE = 2**20


def read_lines(path: Path, most_bytes: int) -> list[str]:
    r"""Return the lines of a UTF-8 file, with or without a byte-order mark; they end with \n, \r\n or \r, as text files' do.

    DataError for another encoding, a folder, or a file that can't be read or has more bytes than
    that.
    """
    return lines_of(text_of(path, most_bytes))


def lines_of(text: str) -> list[str]:
    r"""Return the lines of a text: U+2028, \x0b, \x85 and the other ends that str.splitlines knows stand inside a line.

    >>> lines_of("one\r\ntwo\x85, still two")
    ['one', 'two\x85, still two']
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def text_of(path: Path, most_bytes: int) -> str:
    """Return what a UTF-8 file says; DataError as in `read_lines`."""
    try:
        with path.open("rb") as file:
            content = bytearray()  # grown, as read(n) would take n bytes of memory at once
            while len(content) <= most_bytes and (piece := file.read(_PIECE)):
                content += piece
    except OSError as problem:
        raise DataError(
            f"{path} can't be read ({problem.strerror or problem}): give a file that can."
        ) from None
    if len(content) > most_bytes:
        raise DataError(
            f"{path} has more than {most_bytes:,} bytes, the most that captions may have: split it."
        )
    return decoded(content, str(path))


def decoded(content: bytes | bytearray, name: str) -> str:
    """Return bytes as the UTF-8 that captions are written in; DataError names the first byte that is none, or is zero as in UTF-16."""
    if b"\0" in content:
        raise DataError(
            f"Caption files are UTF-8 but {name} is not, from byte {content.index(0)}, which is zero: save it as UTF-8."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(
            f"Caption files are UTF-8 but {name} is not, from byte {problem.start}: save it as UTF-8."
        ) from None


def parsed(text: str, name: str, way_out: str) -> Any:
    """Return what a JSON text says; DataError for one that is none, is nested too deep, or has a key twice in an object."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
            raise DataError(
                f"{name} has the key {twice!r} twice in one record: keep one of the two."
            )
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except DataError:
        raise
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{name} is not JSON ({problem}): {way_out}.") from None
