"""Every pickle is read, none is run."""

import collections
import os
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import CheckpointError
from tinymm.pretrained.files.pickle_reader import Name, Placeholder, read_pickle

KEYS = st.one_of(st.text(max_size=4), st.integers(), st.booleans(), st.none())
LEAVES = st.one_of(
    KEYS, st.floats(allow_nan=False), st.binary(max_size=8), st.integers(-(2**80), 2**80)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.tuples(inner, inner),
    ),
    max_leaves=12,
)


def read(data, known=None):
    return read_pickle(data, known or {}, lambda identity: ("stored", identity))


@given(value=VALUES, protocol=st.sampled_from([2, 3, 4, 5]))
def test_plain_values_come_back(value, protocol):
    # protocol 2 has no bytes and writes them as calls, of codecs.encode and of bytes itself
    known = {"_codecs.encode": lambda text, coding: text.encode(coding), "__builtin__.bytes": bytes}
    assert read(pickle.dumps(value, protocol=protocol), known) == value


def test_shared_and_cyclic_containers_stay_so():
    inner: list = []
    cycle = {"a": inner, "b": inner}
    inner.append(cycle)
    found = read(pickle.dumps(cycle))
    assert found["a"] is found["b"] and found["a"][0] is found


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_nothing_is_called(protocol, tmp_path):
    witness = tmp_path / "was-here"
    for call in [
        (os.mkdir, (str(witness),)),
        (os.system, (f"touch {witness}",)),
        (eval, (f"open({str(witness)!r}, 'w')",)),
        (exec, ("import this",)),
    ]:
        data = pickle.dumps({"x": Evil(*call), "y": 1}, protocol=protocol)
        try:
            found = read(data)
        except CheckpointError:
            continue
        assert isinstance(found["x"], Placeholder) and found["x"].name.split(".")[1] in (
            "mkdir",
            "system",
            "eval",
            "exec",
        )
    assert not witness.exists()
    assert "this" not in sys.modules


def test_no_module_is_imported_and_no_attribute_set():
    assert "antigravity" not in sys.modules
    known = {"here.known": lambda *a: dict}
    text = b"cantigravity\nfly\n)R}(X\x04\x00\x00\x00evilK\x01ub."  # call a name, then give the result a state
    found = read_pickle(b"\x80\x02" + text, known, lambda _: None)
    assert "antigravity" not in sys.modules and found.state == {"evil": 1}
    for target in (
        b"chere\nknown\n",
        b"chere\nknown\n)R",
    ):  # a name that we know, and what it returned, take no state
        with pytest.raises(CheckpointError):
            read_pickle(
                b"\x80\x02" + target + b"}(X\x0c\x00\x00\x00__defaults__K\x01ub.",
                known,
                lambda _: None,
            )


def test_only_known_names_are_called():
    found = read(
        pickle.dumps([collections.OrderedDict(a=1), collections.Counter("ab")]),
        {"collections.OrderedDict": lambda: {}},
    )
    assert found[0] == {"a": 1}
    assert isinstance(found[1], Placeholder) and found[1].name == "collections.Counter"
    assert isinstance(read(b"\x80\x02cos\nsystem\n."), Name)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"garbage", b"\x80\x02", b"\x80\x02.", b"\x80\x02R.", b"\x80\x02t.", b"\x80\x02h\x05.", b"\x80\x02K\x01K\x02.",
        b"\x80\x02]q\x00(K\x01u.", b"\x80\x02}(K\x01u.", b"\x80\x02K\x01)R.", b"\x80\x02cos\nsystem\nK\x01R.", b"\x80\x02N}b.",
        b"\x80\x02X\xff\xff\xff\x7fabc.", b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x02cos\n", b"\x80\x02\x86.",
        b"\x80\x02K\x01\x85\x85\x87.", b"(ios\nsystem\n.", b"(cos\nsystem\no.", b"\x80\x02\x82\x01.", b"Pabc\n.", b"\x80\x05\x97.",
        b"\x80\x02e.", b"L" + b"9" * 5000 + b"L\n.",
    ],
)  # fmt: skip
def test_malformed_pickles_are_refused(data):
    with pytest.raises(CheckpointError, match="the pickle inside the file"):
        read(data)


@given(st.binary(max_size=60))
def test_no_bytes_escape(data):
    try:
        read(b"\x80\x02" + data)
    except CheckpointError:
        pass


@given(st.data())
def test_no_damage_escapes(data):
    text = bytearray(
        pickle.dumps(
            {
                "a": [1, 2.0, ("x", None)],
                "b": collections.OrderedDict(z=b"zz"),
                "c": Evil(int, ("7",)),
            }
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(text))
    except CheckpointError:
        pass


def test_depth_costs_no_stack():
    deep = b"\x80\x02" + b"(" * 300_000 + b"t" * 300_000 + b"."
    assert isinstance(read(deep), tuple)
    keyed = b"\x80\x02}" + b"(" * 300_000 + b"t" * 300_000 + b"K\x01s."
    assert (
        read(keyed) == {}
    )  # hashing such a key would overflow the C stack: it names no weight and is left out
    states = (
        b"\x80\x02ca\nb\n)R" * 1
        + b"".join(b"ca\nb\n)R" for _ in range(50_000))
        + b"b" * 50_000
        + b"."
    )
    assert isinstance(read(states), Placeholder)


def test_size_is_bounded(monkeypatch):
    monkeypatch.setattr("tinymm.pretrained.files.pickle_reader.LARGEST", 10)
    with pytest.raises(CheckpointError, match="at most 10 bytes, this one has 34"):
        read(pickle.dumps(list(range(9))))
