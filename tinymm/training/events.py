"""TensorBoard's event files, written by hand: a frame with two checksums around a four-field protocol buffer.

People expect TensorBoard; its writer is hundreds of megabytes of dependencies, its format is one
page. A file is a row of *records*; a record is `length (8 bytes) · checksum of the length (4) ·
content · checksum of the content (4)`, little-endian; the content is one `Event` message
(tensorflow/core/util/event.proto):

    1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7 session_log

A reader that meets a record cut short by `kill -9` stops there and goes on with the next file, so
each opening writes a new one.
"""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # wire types: the low three bits of a field's key


def _checksum_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _checksum_table()


def masked_crc32c(content: bytes) -> int:
    """Return the checksum of a TFRecord: CRC-32C (Castagnoli), rotated by 15 bits and shifted by a constant.

    The rotation is there because a checksum of bytes that hold their own checksum is weak (RFC 3720
    B.4 has the test value below).

    >>> rotated = (masked_crc32c(bytes(32)) - 0xA282EAD8) % 2**32
    >>> hex((rotated >> 17 | rotated << 15) % 2**32)
    '0x8a9136aa'
    """
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    """Return a non-negative integer in groups of seven bits, lowest first, the high bit set on all but the last byte.

    >>> varint(300).hex()
    'ac02'
    """
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _field(number: int, wire: int, content: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(content)) if wire == BYTES else b"") + content


class EventWriter:
    """A new event file in `folder`, to which `scalars` adds points; TensorBoard shows it while it grows.

    With `restart`, TensorBoard drops the points of earlier files from that step on: what a resumed
    run will write again.
    """

    def __init__(self, folder: str | Path, *, restart: int | None = None) -> None:
        seconds, opened = int(time.time()), 0
        while True:  # TensorBoard reads the files of a folder in the order of their names; two may be opened in one second
            try:
                self._file = open(
                    Path(folder) / f"events.out.tfevents.{seconds:010d}.{opened:03d}.tinymm", "xb"
                )
                break
            except FileExistsError:
                opened += 1
        self._record(_field(3, BYTES, b"brain.Event:2"))
        if restart is not None:
            start = _field(1, VARINT, varint(1))
            self._record(_field(2, VARINT, varint(restart)) + _field(7, BYTES, start))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point for every tag, as float32, and flush."""
        summary = b""
        for tag, value in values.items():
            with np.errstate(
                over="ignore"
            ):  # float32 ends at 3.4e38; beyond it the curve says infinity
                point = np.asarray(value).astype("<f4").tobytes()
            summary += _field(1, BYTES, _field(1, BYTES, tag.encode()) + _field(2, FIXED_32, point))
        self._record(_field(2, VARINT, varint(int(step))) + _field(5, BYTES, summary))

    def _record(self, event: bytes) -> None:
        event = _field(1, FIXED_64, struct.pack("<d", time.time())) + event
        length = struct.pack("<Q", len(event))
        checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, event)]
        self._file.write(length + checksums[0] + event + checksums[1])
        self._file.flush()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()
