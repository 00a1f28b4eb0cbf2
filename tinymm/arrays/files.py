"""Atomic writes: a file is written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a file for bytes that appears under its name only when the block ends well; until then the old one stays.

    The temporary name lies in the same folder, because `os.replace` is atomic only inside one file
    system.

    >>> with atomic(getfixture("tmp_path") / "a.bin") as file:
    ...     _ = file.write(b"whole")
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
