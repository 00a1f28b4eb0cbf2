"""Torch's archives: those that torch wrote, the same made by hand where torch is missing, and hostile ones."""

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import CheckpointError
from tinymm.pretrained.files.folders import read_weights
from tinymm.pretrained.files.torch import read_torch_file
from tinymm.pretrained.key_maps import tied_keys

REFERENCE = Path(__file__).parents[1] / "reference"


class Global:
    """Pickles as the mere name of a global."""

    def __init__(self, name):
        self.name = name


class Call:
    """Pickles as a call of a global."""

    def __init__(self, name, *arguments, state=None):
        self.name, self.arguments, self.state = name, arguments, state


class Storage:
    """Pickles as a persistent id, as torch writes a storage."""

    def __init__(self, entry, numbers, kind="torch.FloatStorage", tag="storage"):
        self.identity = (tag, Global(kind), entry, "cpu", numbers)


def dump(value) -> bytes:
    """Write a pickle of protocol 2 by hand: names need not exist, and nothing is checked."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return pickle.dumps(value, 2)[2:-1]
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(dump, value)) + b"t"
        case list():
            return b"](" + b"".join(map(dump, value)) + b"e"
        case dict():
            return b"}(" + b"".join(dump(k) + dump(v) for k, v in value.items()) + b"u"
        case Global():
            return b"c" + "\n".join([*value.name.rsplit(".", 1), ""]).encode()
        case Call():
            called = dump(Global(value.name)) + dump(value.arguments) + b"R"
            return called if value.state is None else called + dump(value.state) + b"b"
        case Storage():
            return dump(value.identity) + b"Q"
    raise TypeError(value)


def tensor(storage, offset=0, shape=(2,), strides=(1,)):
    return Call(
        "torch._utils._rebuild_tensor_v2",
        storage,
        offset,
        shape,
        strides,
        False,
        Call("collections.OrderedDict"),
    )


FLOATS = np.arange(6, dtype=np.float32).tobytes()


def archive(path, described, entries=None, *, compression=zipfile.ZIP_STORED, extra=None, raw=None):
    with zipfile.ZipFile(path, "w", compression) as z:
        z.writestr("w/data.pkl", b"\x80\x02" + dump(described) + b"." if raw is None else raw)
        for name, content in (entries if entries is not None else {"0": FLOATS}).items():
            z.writestr(f"w/data/{name}", content)
        for name, content in (extra or {}).items():
            z.writestr(name, content)
    return path


@pytest.mark.parametrize("nest", [None, "state_dict", "model", "model_state_dict"])
def test_a_state_dict_by_itself_or_wrapped(nest, tmp_path):
    storage = Storage("0", 6)
    weights = {
        "plain": tensor(storage, 1, (2, 2), (2, 1)),
        "transposed": tensor(storage, 0, (3, 2), (1, 3)),
        "stretched": tensor(storage, 5, (4,), (0,)),
        "scalar": tensor(storage, 3, (), ()),
        "empty": tensor(storage, 0, (0, 3), (3, 1)),
        "parameter": Call(
            "torch._utils._rebuild_parameter",
            tensor(storage),
            True,
            Call("collections.OrderedDict"),
        ),
        "again": tensor(storage),
        "epoch": 3,
    }
    described = {"epoch": 7, "optimizer": {"state": {}}, nest: weights} if nest else weights
    found = read_torch_file(archive(tmp_path / "w.pt", described))
    numbers = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(found["plain"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["transposed"], numbers.reshape(2, 3).T)
    np.testing.assert_array_equal(found["stretched"], [5, 5, 5, 5])
    assert found["scalar"] == 3 and found["scalar"].shape == () and found["empty"].shape == (0, 3)
    assert "epoch" not in found and tied_keys(found) == [("parameter", "again")]


def test_a_module_tree_like_torchscript_s(tmp_path):
    leaf = Call(
        "__torch__.torch.nn.Linear", state={"weight": tensor(Storage("0", 6)), "training": False}
    )
    root = Call(
        "__torch__.clip.CLIP",
        state={
            "visual": leaf,
            "scale": tensor(Storage("0", 6), 2, (), ()),
            "name": "x",
            "_hook": None,
        },
    )
    found = read_torch_file(archive(tmp_path / "w.pt", root))
    assert sorted(found) == ["scale", "visual.weight"]
    np.testing.assert_array_equal(found["visual.weight"], [0, 1])


STORED = Storage("0", 6)
CYCLE = b"\x80\x02c__torch__\nA\n)Rq\x00}(X\x01\x00\x00\x00ah\x00ub."
HOSTILE = {
    "reaches to number 6 of a storage that has 6": {"x": tensor(STORED, 5)},
    "reaches to number 1000000000001 of": {"x": tensor(STORED, 10**12)},
    "reaches to number 3000000000 of": {"x": tensor(STORED, 0, (2,), (3 * 10**9,))},
    "'w/data/9' but has no such entry": {"x": tensor(Storage("9", 6))},
    "'w/data/../data.pkl' but has": {"x": tensor(Storage("../data.pkl", 6))},
    "'w/data//etc/passwd' but has": {"x": tensor(Storage("/etc/passwd", 6))},
    "have 1,000,000,000 numbers together": {"x": tensor(STORED, 0, (10**9,), (0,))},
    "have 150,000 numbers together": {
        f"x{i}": tensor(STORED, 0, (50_000,), (0,)) for i in range(3)
    },
    "torch.QInt8Storage": {"x": tensor(Storage("0", 6, "torch.QInt8Storage"))},
    "builtins.eval": {"x": tensor(Storage("0", 6, "builtins.eval"))},
    "holds a dictionary of 'a', 'b'": {"a": 1, "b": {"c": STORED}},
    "holds list": [tensor(STORED)],
    "object of class 'os.system'": Call("os.system", "touch here"),
    "holds a dictionary of nothing": {},
    "damaged or hostile (TypeError": {"x": tensor(STORED, -1)},
    "hostile (TypeError in": {"x": tensor(STORED, 0, (2**20, 2**20, 0), (0, 0, 0))},
    "(TypeError in its": {"x": tensor(STORED, 0, (2,), (1, 1))},
    "(TypeError in its instructions": {"x": tensor(STORED, 0, (2,), (-1,))},
    "(TypeError in its instructions)": {"x": tensor(STORED, True, (2,), (1,))},
    "(TypeError in its instructions);": {"x": tensor("0")},
    "(TypeError in its instructions); ": {"x": tensor(Storage(0, 6))},
    "(TypeError in its instructions); c": {"x": tensor(Storage("0", 6, tag="file"))},
    "(TypeError in its instructions); co": {
        "x": tensor(Storage("0", 6, "torch.storage.UntypedStorage"))
    },
    "(TypeError in its instructions); cop": {"x": tensor(STORED, 0, (1,) * 40, (1,) * 40)},
}


@pytest.mark.parametrize("said", HOSTILE)
def test_descriptions_that_lie_are_refused(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "w.pt", HOSTILE[said])
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert said in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]  # nothing was run, nothing was written


def test_archives_that_are_no_checkpoints_are_refused(tmp_path):
    good = {"x": tensor(STORED)}

    def refused(said, path):
        with pytest.raises(CheckpointError) as caught:
            read_torch_file(path)
        assert said in str(caught.value)

    refused("this one contains itself", archive(tmp_path / "a", None, raw=CYCLE))
    refused(
        "tensors are stored uncompressed",
        archive(tmp_path / "b", good, {"0": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED),
    )
    small = archive(
        tmp_path / "b",
        good,
        {"0": bytes(2000), "1": os.urandom(4000)},
        compression=zipfile.ZIP_DEFLATED,
    )
    refused("tensors are stored uncompressed", small)
    refused(
        "has one entry NAME/data.pkl, this one has 2",
        archive(tmp_path / "c", good, extra={"v/data.pkl": b"."}),
    )
    refused("the file says b'big'", archive(tmp_path / "d", good, extra={"w/byteorder": b"big"}))
    with zipfile.ZipFile(tmp_path / "e", "w") as z:
        z.writestr("picture.png", b"")
    refused("this one has 0", tmp_path / "e")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(tmp_path / "f", good, extra={"w/data/0": b"other"})
    refused("'w/data/0' comes twice", tmp_path / "f")
    content = archive(tmp_path / "g", good).read_bytes()
    (tmp_path / "g").write_bytes(content[:-30])
    refused("damaged or cut short", tmp_path / "g")
    whole = archive(tmp_path / "h", good).read_bytes()
    (tmp_path / "h").write_bytes(
        whole[:10] + whole[40:]
    )  # lost in the middle, its index points before its beginning
    refused("damaged or cut short", tmp_path / "h")
    (tmp_path / "h").write_bytes(content.replace(FLOATS, FLOATS[::-1]))
    refused("Bad CRC-32", tmp_path / "h")


@given(data=st.data())
def test_no_damage_escapes(data, tmp_path_factory):
    path = archive(
        tmp_path_factory.getbasetemp() / "damaged.pt",
        {"x": tensor(STORED), "y": Call("os.system", "true")},
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(len(content) - 40, len(content)))]))
    try:
        read_torch_file(path)
    except CheckpointError:
        pass


def test_a_file_that_torch_wrote(tmp_path):
    found = read_torch_file(REFERENCE / "openai_vit.pt")
    assert (
        len(found) == 65
        and found["visual.proj"].shape == (64, 24)
        and found["visual.proj"].dtype == np.float32
    )
    wrapped = archive(tmp_path / "w.pt", {"module.a": tensor(STORED), "module.b": tensor(STORED)})
    assert read_weights(wrapped).tied == [("a", "b")]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parity
def test_every_dtype_and_every_view_as_torch_reads_them(torch, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    weights = {
        "t": base.T,
        "slice": base[1:, ::2],
        "row": base[2],
        "stretched": base[:, :1].expand(4, 5),
        "shared": base,
        "scalar": torch.tensor(3.5),
    }
    weights["parameter"] = torch.nn.Parameter(base[:2])
    for name in "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 complex64".split():
        weights[name] = (torch.arange(7) * 37 % 5).to(getattr(torch, name))
    for protocol in (2, 4):
        torch.save(weights, tmp_path / "w.pt", pickle_protocol=protocol)
        found = read_torch_file(tmp_path / "w.pt")
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            value = value.detach()
            np.testing.assert_array_equal(
                found[name], (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            )
            assert str(found[name].dtype) == (
                "float32" if name == "bfloat16" else str(value.dtype).split(".")[1]
            )


@pytest.mark.parity
def test_a_training_checkpoint_gives_its_weights_only(torch, tmp_path):
    import argparse
    import datetime

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    extras = {
        "args": argparse.Namespace(lr=1),
        "at": datetime.datetime(2021, 1, 1),
        "numbers": np.float64(3),
        "device": torch.device("cpu"),
    }
    torch.save(
        {
            "model": layer.state_dict(),
            "optimizer": optimizer.state_dict(),
            **extras,
            "size": torch.Size([1]),
        },
        tmp_path / "w.pth",
    )
    found = read_torch_file(tmp_path / "w.pth")
    assert found.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(found["weight"], layer.weight.detach().numpy())


@pytest.mark.parity
@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_archives_hold_the_same_names_as_the_state_dict(torch, how, tmp_path):
    from torch import nn

    model = (
        nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 1, 1))
        )
        .half()
        .eval()
    )
    model.register_buffer("input_resolution", torch.tensor(7))
    made = (
        torch.jit.script(model)
        if how == "script"
        else torch.jit.trace(model, torch.zeros(1, 1, 4, 4).half())
    )
    made.save(str(tmp_path / "w.pt"))
    found = read_torch_file(tmp_path / "w.pt")
    expected = model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy())


@pytest.mark.parity
def test_files_of_before_torch_1_6_and_whole_modules_are_refused_with_the_way_out(torch, tmp_path):
    layer = torch.nn.Linear(3, 2)
    torch.save(layer.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"bare pickle of before.*torch\.save\(torch\.load"):
        read_weights(tmp_path / "old.pt")
    torch.save(layer, tmp_path / "module.pt")
    with pytest.raises(
        CheckpointError,
        match=r"'torch\.nn\.modules\.linear\.Linear' without tensors.*state_dict\(\)",
    ):
        read_torch_file(tmp_path / "module.pt")


@pytest.mark.parity
def test_a_pickle_that_torch_would_run_is_not_run(torch, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-here"),)

    torch.save({"weight": torch.ones(2), "evil": Evil()}, tmp_path / "w.pt")
    assert list(read_torch_file(tmp_path / "w.pt")) == ["weight"]
    assert not (tmp_path / "was-here").exists()
