"""An event file, read back by a reader of our own (and by TensorBoard's, where it is installed)."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.training.events import EventWriter, masked_crc32c, varint


def crc32c_by_division(content: bytes) -> int:
    """CRC-32C as its definition: the remainder of a long division of bits, with no table."""
    remainder = 0xFFFFFFFF
    for byte in content:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 * (remainder & 1))
    return remainder ^ 0xFFFFFFFF


def mask(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def read_varint(content, at):
    value = shift = 0
    while True:
        byte, at = content[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(message):
    at, found = 0, []
    while at < len(message):
        key, at = read_varint(message, at)
        if key & 7 == 0:
            value, at = read_varint(message, at)
        elif key & 7 == 2:
            size, at = read_varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            size, letter = {1: (8, "<d"), 5: (4, "<f")}[key & 7]
            (value,) = struct.unpack(letter, message[at : at + size])
            at += size
        found.append((key >> 3, value))
    return found


def read_records(path):
    content, at = Path(path).read_bytes(), 0
    while at < len(content):
        header = content[at : at + 8]
        (size,) = struct.unpack("<Q", header)
        message = content[at + 12 : at + 12 + size]
        assert struct.unpack("<I", content[at + 8 : at + 12])[0] == mask(crc32c_by_division(header))
        assert struct.unpack("<I", content[at + 12 + size : at + 16 + size])[0] == mask(
            crc32c_by_division(message)
        )
        yield fields(message)
        at += 16 + size


def read_scalars(path):
    points = []
    for event in read_records(path):
        step = dict(event).get(2)
        for summary in (value for number, value in event if number == 5):
            points += [
                (step, dict(fields(value))[1].decode(), dict(fields(value))[2])
                for _, value in fields(summary)
            ]
    return points


@given(st.binary(max_size=64))
def test_checksum_is_the_definition(content):
    assert masked_crc32c(content) == mask(crc32c_by_division(content))


@given(st.integers(0, 2**63 - 1))
def test_varint_reads_back(number):
    assert read_varint(varint(number), 0) == (number, len(varint(number)))


numbers = st.floats(width=32) | st.integers(-1000, 1000)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.dictionaries(st.text(min_size=1, max_size=8), numbers, max_size=3),
        ),
        max_size=4,
    )
)
def test_points_read_back(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("events")
    writer = EventWriter(folder)
    for step, values in points:
        writer.scalars(step, values)
    writer.close()
    (path,) = folder.iterdir()
    expected = [
        (step, tag, np.float32(value)) for step, values in points for tag, value in values.items()
    ]
    found = read_scalars(path)
    assert [point[:2] for point in found] == [point[:2] for point in expected]
    np.testing.assert_array_equal([point[2] for point in found], [point[2] for point in expected])


def test_begins_with_the_version_and_holds_no_host_name(tmp_path):
    EventWriter(tmp_path).close()
    (path,) = tmp_path.iterdir()
    assert (3, b"brain.Event:2") in next(read_records(path))
    assert path.name.endswith(".tinymm") and "tfevents" in path.name


def test_two_in_one_second_do_not_overwrite_and_keep_their_order(tmp_path):
    for step in range(3):
        writer = EventWriter(tmp_path)
        writer.scalars(step, {"loss": 1.0})
        writer.close()
    assert [read_scalars(path)[0][0] for path in sorted(tmp_path.iterdir())] == [0, 1, 2]


def test_too_large_for_float32_is_infinity(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(1, {"loss": 1e300})
    writer.close()
    assert read_scalars(next(tmp_path.iterdir())) == [(1, "loss", float("inf"))]


def test_restart_names_the_first_step_to_drop(tmp_path):
    EventWriter(tmp_path, restart=41).close()
    events = list(itertools.islice(read_records(next(tmp_path.iterdir())), 2))
    assert (2, 41) in events[1] and (7, b"\x08\x01") in events[1]  # SessionLog.status = START


def test_tensorboard_reads_it_and_drops_what_a_resumed_run_wrote_again(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = EventWriter(tmp_path)
    for step in range(1, 7):
        first.scalars(step, {"loss": step / 2, "scale": 10.0})
    first.close()
    second = EventWriter(tmp_path, restart=5)
    second.scalars(5, {"loss": 50.0})
    second.close()
    reader = accumulator.EventAccumulator(str(tmp_path))
    reader.Reload()
    assert [(point.step, point.value) for point in reader.Scalars("loss")] == [
        (1, 0.5),
        (2, 1),
        (3, 1.5),
        (4, 2),
        (5, 50),
    ]
    assert sorted(reader.Tags()["scalars"]) == ["loss", "scale"]
