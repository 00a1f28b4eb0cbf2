"""Files that the library wrote, files that it refuses to write, and files that nobody should believe."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinymm.arrays.errors import CheckpointError
from tinymm.pretrained.files.folders import read_weights
from tinymm.pretrained.files.safetensors import (
    read_json,
    read_safetensors,
    widen_bfloat16,
    write_safetensors,
)

DTYPES = [
    np.float64,
    np.float32,
    np.float16,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint8,
    np.bool_,
]


def pack(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    )
)


@given(arrays=st.dictionaries(st.text(min_size=1, max_size=5), ARRAYS))
def test_reads_what_the_library_writes_and_the_library_reads_what_we_write(
    arrays, tmp_path_factory
):
    from safetensors.numpy import load_file, save_file

    theirs, ours = (
        tmp_path_factory.getbasetemp() / name for name in ("theirs.safetensors", "ours.safetensors")
    )
    save_file({name: np.asarray(a, order="C") for name, a in arrays.items()}, theirs)
    write_safetensors(ours, arrays)
    for found in (read_safetensors(theirs), load_file(ours), read_safetensors(ours)):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_transposed_arrays_are_written_in_their_order(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    write_safetensors(tmp_path / "w.safetensors", {"w": array.T, "v": array[:, ::2]})
    found = read_safetensors(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(found["w"], array.T)
    np.testing.assert_array_equal(found["v"], array[:, ::2])


@given(st.integers(0, 2**16 - 1))
def test_bfloat16_is_widened_exactly(bits):
    wide = widen_bfloat16(np.array([bits], np.uint16))
    assert wide.dtype == np.float32
    assert (
        wide.view(np.uint32)[0] == bits << 16
    )  # the same number: sign, exponent, and the fraction's first bits


def test_a_bfloat16_file_gives_float32(tmp_path):
    bits = np.array([0x3F80, 0xC040, 0x7F80], np.uint16)
    (tmp_path / "b.safetensors").write_bytes(
        pack({"x": entry("BF16", (3,), (0, 6))}, bits.tobytes())
    )
    np.testing.assert_array_equal(
        read_safetensors(tmp_path / "b.safetensors")["x"], np.array([1.0, -3.0, np.inf], np.float32)
    )


HOSTILE = [
    (pack({}, length=2**63 - 1), "the header has 9,223,372,036,854,775,807 bytes"),
    (pack({}, length=100), "the header has 100 bytes"),
    (pack(b"{not json"), "not JSON"),
    (pack(b'{"a":' + b"[" * 200_000), "not JSON (RecursionError"),
    (pack([]), "a JSON object is expected, a list"),
    (pack(b'{"x": {"dtype":"U8"}, "x": {"dtype":"U8"}}', b"a"), "'x' comes twice"),
    (pack({"x": [1, 2]}), "tensor 'x' needs dtype"),
    (pack({"x": entry(shape=(-1,))}, b"abcd"), "tensor 'x' needs dtype"),
    (pack({"x": entry(shape=(1.0,))}, b"abcd"), "tensor 'x' needs dtype"),
    (pack({"x": entry(shape=(0, 2**40, 2**40), offsets=(0, 0))}), "tensor 'x' needs dtype"),
    (pack({"x": entry("F8_E4M3", (4,))}, b"abcd"), "stored as 'F8_E4M3'"),
    (pack({"x": entry()}, b"ab"), "give 0 to 4 of 2"),
    (pack({"x": entry(shape=(2,))}, b"abcd"), "needs 8 bytes, its offsets give 0 to 4"),
    (pack({"x": entry(shape=(2**46, 1))}, b"abcd"), "needs 281,474,976,710,656 bytes"),
    (pack({"x": entry(), "y": entry(offsets=(2, 6))}, b"abcdef"), "'y' begins at byte 2 where 4"),
    (pack({"x": entry(offsets=(4, 8))}, b"abcdefgh"), "begins at byte 4 where 0"),
    (pack({"x": entry()}, b"abcde"), "end at byte 4 of 5"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE, ids=[said for _, said in HOSTILE])
def test_a_malformed_file_is_refused_with_its_numbers(content, said, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_safetensors(path)
    message = str(caught.value)
    assert (
        said in message
        and message.startswith("bad.safetensors")
        and ("copy the file again" in message or "save it as" in message)
    )


@given(data=st.data())
def test_any_damage_is_an_error_or_changes_numbers_only(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.arange(4)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(len(content) - 9, len(content)))]))
    try:
        found = read_safetensors(path)
    except CheckpointError:
        return
    assert sum(a.nbytes for a in found.values()) <= len(content)


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is gone"))
    )
    with pytest.raises(OSError, match="gone"):
        write_safetensors(path, {"x": np.ones(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def index(folder, places):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )


def test_shards_are_read_together(tmp_path):
    write_safetensors(tmp_path / "one.safetensors", {"a": np.ones(2)})
    write_safetensors(tmp_path / "two.safetensors", {"b": np.zeros(3), "c": np.ones(1)})
    index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"})
    assert sorted(read_weights(tmp_path).arrays) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"a": "../one.safetensors"}, "no plain name"),
        ({"a": "/etc/passwd"}, "no plain name"),
        ({"a": "sub\\one.safetensors"}, "no plain name"),
        ({"a": ".."}, "no plain name"),
        ({"a": "gone.safetensors"}, "'gone.safetensors', which is not in"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "no file holds 'b' (1 keys in all)"),
        (
            {"a": "two.safetensors", "b": "two.safetensors", "c": "one.safetensors"},
            "holds 'a', which the index puts in 'two.safetensors'",
        ),
        ({"a": 3}, "under 'weight_map'"),
        (None, "under 'weight_map'"),
    ],
)
def test_an_index_names_whole_files_of_its_own_folder(places, said, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (tmp_path, folder):
        write_safetensors(place / "one.safetensors", {"a": np.ones(2)})
    write_safetensors(folder / "two.safetensors", {"b": np.ones(2)})
    index(folder, places)
    with pytest.raises(CheckpointError) as caught:
        read_weights(folder)
    assert said in str(caught.value)


def test_json_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"a": 1}')
    monkeypatch.setattr("tinymm.pretrained.files.safetensors.LARGEST_JSON", 5)
    with pytest.raises(CheckpointError, match="at most 5 bytes"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with b''"),
        (b"<!DOCTYPE html>", "begins with b'<!DOCTYP'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x80\x02}q\x00.", "zip archive since torch 1.6"),
        (pack({}), "names at least one array"),
    ],
)
def test_files_that_are_no_weights(content, said, tmp_path):
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "w.bin")
    assert said in str(caught.value)


def test_what_a_folder_holds_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no file"):
        read_weights(tmp_path)
    write_safetensors(tmp_path / "a.safetensors", {"module.x": np.ones(1)})
    assert list(read_weights(tmp_path).arrays) == [
        "x"
    ]  # one single file needs no special name; a wrapper's prefix goes
    write_safetensors(tmp_path / "b.safetensors", {"x": np.ones(1)})
    with pytest.raises(
        CheckpointError, match=r"holds a\.safetensors, b\.safetensors; name the file itself"
    ):
        read_weights(tmp_path)
