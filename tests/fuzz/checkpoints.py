"""Weights of every model and in every container: safetensors, alone and in shards with an index,
torch's zip archive with and without wrappers, TorchScript's tree, and the bare pickle of before.

Tensors are left out, added, renamed, reshaped, given other dtypes; headers, indices, archives and
pickles get other fields and other bytes; pickles ask for programs to be run.
"""

import io
import json
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tiny import randomized

from .cases import Trial
from .mutations import changed_bytes, changed_json

Arrays = dict[str, np.ndarray]


@cache
def models() -> dict[str, tuple[Arrays, dict[str, Any], dict[str, int] | None]]:
    """Return, for each model and layout, its arrays, its config.json, and the heads where no config is."""
    from tinymm import pretrained
    from tinymm.models.albef import ALBEF, ALBEFConfig
    from tinymm.models.bert import BertConfig, BertLanguageModel
    from tinymm.models.blip import BLIP, BLIPConfig
    from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
    from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
    from tinymm.models.clip import CLIP, CLIPConfig
    from tinymm.models.opt import OPT, OPTConfig
    from tinymm.models.qformer import QFormer, QFormerConfig
    from tinymm.pretrained.models.families import model_format_of

    rng = np.random.default_rng(0)
    plain = {"norm_before": False, "norm_after": False, "patch_bias": True}
    eva = BLIP2Config.tiny().image.__class__(16, 8, 24, 1, 2, activation="gelu", eps=1e-6, **plain)
    made = {
        "clip": (CLIP(CLIPConfig.tiny(), rng), ("huggingface", "openai", "tinymm")),
        "clip resnet": (CLIP(CLIPConfig.tiny("resnet"), rng), ("openai",)),
        "clip words": (CLIP(CLIPConfig.tiny("vit", "cbow"), rng), ("tinymm",)),
        "albef": (ALBEF(ALBEFConfig.tiny(), rng), ("albef", "tinymm")),
        "blip": (
            BLIP(BLIPConfig.tiny(), rng),
            ("blip", "huggingface", "huggingface_retrieval", "tinymm"),
        ),
        "stage 1": (
            BLIP2Stage1(BLIP2Config.tiny(image=eva), rng),
            ("lavis", "huggingface", "tinymm"),
        ),
        "stage 2": (BLIP2Stage2(BLIP2Stage2Config.tiny(image=eva), rng), ("huggingface", "tinymm")),
        "opt": (OPT(OPTConfig.tiny(), rng), ("huggingface",)),
        "bert": (BertLanguageModel(BertConfig.tiny(), rng), ("huggingface",)),
    }
    for model, _ in made.values():  # no two tensors alike, so that none can stand for another
        randomized(model)
    heads = {"image": 2, "text": 4, "qformer": 4, "language": 4}
    found = {}
    for name, (model, formats) in made.items():
        for form in formats:
            arrays = {key: np.array(array) for key, array in pretrained.export(model, form).items()}
            told = form not in ("openai", "lavis")
            config = (
                model_format_of(model).settings_for(model.config, form, "float32") if told else {}
            )
            bare = {"image": 4, "text": 4} if name.startswith("clip") else heads
            found[f"{name} {form}"] = (
                arrays,
                json.loads(json.dumps(config)),
                None if config else bare,
            )
    former = randomized(QFormer(QFormerConfig.tiny(), rng))
    arrays = {
        key: np.array(array) for key, array in pretrained.export(former, "huggingface").items()
    }
    found["q-former huggingface"] = arrays, found["stage 1 huggingface"][1]["qformer_config"], None
    clip = found["clip openai"][0]
    open_clip = {
        key if key.startswith(("visual", "logit")) else f"text.{key}": array
        for key, array in clip.items()
    }
    described = {"model_cfg": {
        "embed_dim": 16, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8,
        "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2},
    }, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}  # fmt: skip
    found["clip open_clip"] = (open_clip, described, None)
    return found


# ---------------------------------------------------------------------- containers
def safetensors(arrays: Arrays, change: Callable[[dict], str] | None = None) -> tuple[bytes, str]:
    """Return the arrays as a safetensors file, whose header may be changed."""
    names = {
        "f8": "F64",
        "f4": "F32",
        "f2": "F16",
        "i8": "I64",
        "i4": "I32",
        "i2": "I16",
        "i1": "I8",
        "u1": "U8",
        "b1": "BOOL",
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start, blocks = 0, []
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        kind = names.get(array.dtype.str[1:], "F32")
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [start, start + len(data)],
        }
        start += len(data)
        blocks.append(data)
    said = change(header) if change else ""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(blocks), said


class Global:
    """Pickles as the mere name of a global."""

    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    """Pickles as a call of a global, with a state if one is given."""

    def __init__(self, name: str, *arguments: Any, state: Any = None) -> None:
        self.name, self.arguments, self.state = name, arguments, state


def dump(value: Any) -> bytes:
    """Return a value as the instructions of a pickle of protocol 2, written by hand: names need not exist."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() | float():
            return pickle.dumps(value, 2)[2:-1]
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<I", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(dump, value)) + b"t"
        case list():
            return b"](" + b"".join(map(dump, value)) + b"e"
        case dict():
            return b"}(" + b"".join(dump(key) + dump(inner) for key, inner in value.items()) + b"u"
        case Global():
            return b"c" + "\n".join([*value.name.rsplit(".", 1), ""]).encode()
        case Call():
            called = dump(Global(value.name)) + dump(value.arguments) + b"R"
            return called if value.state is None else called + dump(value.state) + b"b"
        case bytes():
            return value
    raise TypeError(value)


_STORAGES = {
    "f8": "Double",
    "f4": "Float",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}


def _tensor(array: np.ndarray, entry: str) -> Call:
    kind = Global(f"torch.{_STORAGES.get(array.dtype.str[1:], 'Float')}Storage")
    stored = dump(("storage", kind, entry, "cpu", int(array.size))) + b"Q"
    strides = tuple(int(math.prod(array.shape[i + 1 :])) for i in range(array.ndim))
    return Call(
        "torch._utils._rebuild_tensor_v2",
        stored,
        0,
        tuple(map(int, array.shape)),
        strides,
        False,
        Call("collections.OrderedDict"),
    )


EVIL = (
    Call("os.system", "touch ../canary"), Call("posix.system", "touch ../canary"),
    Call("builtins.exec", "open('../canary', 'w')"),
    Call("builtins.open", "../canary", "w"), Call("subprocess.Popen", ["touch", "../canary"]),
    Call("torch.load", "x"),
    Call("tinymm.pretrained.load", "x"), Call("collections.OrderedDict", state={"__class__": "os"}),
    Call("numpy.zeros", 2**40),
    Call("torch._utils._rebuild_tensor_v2", "x", 0, (2**40,), (1,)),
    Call("builtins.getattr", Global("os.path"), "join"),
)  # fmt: skip


def archive(rng: random.Random, arrays: Arrays, wrapper: str, changes: int) -> tuple[bytes, str]:
    """Return the arrays as torch's zip archive, with so many changes in its description or its entries."""
    said, entries = [wrapper], {}
    tensors: dict[str, Any] = {}
    for number, (name, array) in enumerate(arrays.items()):
        tensors[name] = _tensor(array, str(number))
        entries[f"data/{number}"] = np.ascontiguousarray(array).tobytes()
    others: dict[str, Any] = {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}
    whole: Any = tensors
    if wrapper in ("state_dict", "model", "model_state_dict"):
        whole = {**others, wrapper: tensors}
    elif wrapper == "torchscript":
        whole = _module(tensors)
    deflated, twice = False, None
    for _ in range(changes):
        how = rng.choice(
            (
                "evil",
                "evil",
                "entry gone",
                "entry cut",
                "entry twice",
                "deflate",
                "pickle bytes",
                "order",
                "second pickle",
            )
        )
        said.append(how)
        if how == "evil":
            target = whole if isinstance(whole, dict) else tensors
            target[rng.choice(("evil", "epoch", next(iter(target), "x")))] = rng.choice(EVIL)
        elif how == "entry gone":
            entries.pop(rng.choice(list(entries)), None)
        elif how == "entry cut" and entries:
            name = rng.choice(list(entries))
            entries[name] = entries[name][: len(entries[name]) // 2]
        elif how == "entry twice" and entries:
            twice = rng.choice(list(entries))
        elif how == "deflate":
            deflated = True
        elif how == "order":
            entries["byteorder"] = rng.choice((b"big", b"little", b""))
        elif how == "second pickle":
            entries["data.pkl"] = b"\x80\x02N."
    description = b"\x80\x02" + dump(whole) + b"."
    if "pickle bytes" in said:
        description, change = changed_bytes(rng, description, 3)
        said.append(change)
    out = io.BytesIO()
    root = rng.choice(("archive", "w", "model"))
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    ) as file:
        for name, data in {"data.pkl": description, **entries}.items():
            file.writestr(f"{root}/{name}", data)
        if twice:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file.writestr(f"{root}/{twice}", b"\x00" * 4)
    return out.getvalue(), ", ".join(said)


def _module(tensors: dict[str, Any]) -> Call:
    """Return a tree of modules with these tensors at its leaves."""
    tree: dict[str, Any] = {"training": False}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {"training": False})
        place[last] = tensor

    def built(node: dict[str, Any], name: str) -> Call:
        state = {
            key: built(inner, key) if isinstance(inner, dict) else inner
            for key, inner in node.items()
        }
        return Call(f"__torch__.{name}", state=state)

    return built(tree, "CLIP")


# ---------------------------------------------------------------------- changes
def changed_arrays(rng: random.Random, arrays: Arrays) -> tuple[str, str]:
    """Change one tensor in place; return the change in words and the key that is now missing, or an empty string."""
    name = rng.choice(list(arrays))
    array = arrays[name]
    how = rng.choice(
        (
            "gone",
            "gone",
            "more",
            "rename",
            "dtype",
            "transpose",
            "shape",
            "layer",
            "nan",
            "empty",
            "twice",
            "wide",
            "half",
            "swap",
        )
    )
    said = f"{name} {how}"
    if how == "gone":
        del arrays[name]
        return said, name
    if how == "more":
        arrays[
            rng.choice(
                (
                    "best_acc",
                    "rng_state",
                    "n_averaged",
                    name + "_x",
                    "text.x.weight",
                    "visual.x",
                    "head.weight",
                )
            )
        ] = np.ones(rng.choice(((), (2,), (3, 4))), np.float32)
    elif how == "rename":
        arrays[
            rng.choice(
                (
                    name.upper(),
                    name + ".",
                    "x." + name,
                    name.replace("0", "9"),
                    name.replace("weight", "gamma"),
                )
            )
        ] = arrays.pop(name)
        return said, name
    elif how == "dtype":
        arrays[name] = array.astype(rng.choice(("<f8", "<f2", "<i8", "|b1", "|u1")))
    elif how == "transpose":
        arrays[name] = np.ascontiguousarray(array.T)
    elif how == "shape":
        arrays[name] = rng.choice(
            (
                array.reshape(-1),
                array[None],
                array[..., :1] if array.ndim else array.reshape(1, 1, 1),
                np.concatenate([array.reshape(-1)] * 2),
            )
        )
    elif how == "layer":
        arrays[name.replace(".0.", ".5.") if ".0." in name else name + "2"] = array
    elif how == "nan":
        arrays[name] = np.full_like(array, np.nan) if array.dtype.kind == "f" else array
    elif how == "empty":
        arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype)
    elif how == "twice":
        arrays[f"module.{name}"] = array
    elif how == "wide":
        arrays[name] = np.zeros((*array.shape[:-1], 4096), array.dtype) if array.ndim else array
    elif how == "half":
        arrays[name] = array[: len(array) // 2] if array.ndim else array
    else:
        other = rng.choice(list(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    return said, ""


PREFIXES = (
    "",
    "",
    "",
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
)


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a file or folder of weights with a few changes, and the call that loads it."""
    name = rng.choice(list(models()))
    base, config, heads = models()[name]
    arrays, said, gone = dict(base), [name], []
    count = rng.choices((0, 1, 2), (20, 62, 18))[0]
    container = rng.choice(("safetensors", "safetensors", "shards", "zip", "zip", "bare"))
    wrapper = (
        rng.choice(("plain", "state_dict", "model", "model_state_dict", "torchscript"))
        if container == "zip"
        else ""
    )
    prefix = rng.choice(PREFIXES)
    inside = [
        rng.choice(("arrays", "arrays", "container", "container", "bytes")) for _ in range(count)
    ]
    for _ in range(inside.count("arrays")):
        change, lost = changed_arrays(rng, arrays)
        said.append(change)
        gone += [lost] if lost else []
    stored = {prefix + key: array for key, array in arrays.items()}
    said += [f"prefix {prefix}"] if prefix else []
    wrong = count > 0 or prefix == "model." or len(prefix) > 10  # of wrappers, one is always known
    path = folder / "model.safetensors"
    if container == "safetensors":
        touched = inside.count("container") > 0
        data, change = safetensors(
            stored, (lambda header: changed_json(rng, header)) if touched else None
        )
        said.append(change)
    elif container == "shards":
        data, path = shards(rng, stored, folder, inside.count("container"), said)
    elif container == "zip":
        data, change = archive(rng, stored, wrapper, inside.count("container"))
        said.append(change)
        path = folder / rng.choice(("pytorch_model.bin", "weights.pt"))
    else:
        shown = dict(list(stored.items())[:2])
        data = rng.choice((pickle.dumps({key: value.tolist() for key, value in shown.items()},
        rng.choice((0, 1, 2, 4))),
                           b"\x80\x02" + dump(rng.choice(EVIL)) + b".",
                           b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
                           b"version https://git-lfs.github.com/spec/v1\n", b"", b"PK", b"{}",
                           b"<html>"))  # fmt: skip
        path, wrong = folder / rng.choice(("pytorch_model.bin", "model.safetensors")), True
    for _ in range(inside.count("bytes")):
        data, change = changed_bytes(rng, data, 3)
        said.append(change)
    path.write_bytes(data)
    if config:
        described = "open_clip_config.json" if name.endswith("open_clip") else "config.json"
        (folder / described).write_text(json.dumps(config))

    def act() -> Any:
        from tinymm import pretrained

        where = folder if config or container == "shards" else path
        told: dict[str, Any] = {} if config else {"heads": heads}
        if not config and name.startswith("clip"):
            told["activation"] = "quick_gelu"  # no array shows it
        return pretrained.load_with_report(where, **told)

    # what was changed inside the container is no longer known, so what must be found again is not either
    known = "container" not in inside and "bytes" not in inside and container != "bare"
    return Trial(
        "; ".join(part for part in said if part), act,
        lambda found: judge(found, arrays, gone) if known else (),
        lambda found: "named" if found[1].ignored or found[1].newly_initialized else "used", valid=not wrong,
    )  # fmt: skip


def shards(
    rng: random.Random, arrays: Arrays, folder: Path, changes: int, said: list[str]
) -> tuple[bytes, Path]:
    """Write the arrays as two files, and return their index and its path."""
    names = list(arrays)
    rng.shuffle(names)
    files = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    places = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        (folder / file).write_bytes(
            safetensors({name: arrays[name] for name in names if places[name] == file})[0]
        )
    index: dict[str, Any] = {"metadata": {"total_size": 1}, "weight_map": places}
    for _ in range(changes):
        how = rng.choice(("json", "json", "file gone", "climb", "elsewhere", "empty"))
        if how == "json":
            said.append(changed_json(rng, index))
            continue
        said.append(how)
        target = index["weight_map"] if isinstance(index.get("weight_map"), dict) else {}
        if how == "file gone":
            (folder / files[0]).unlink(missing_ok=True)
        elif how == "empty":
            (folder / files[0]).write_bytes(b"")
        elif target:
            target[rng.choice(list(target))] = (
                "../canary"
                if how == "climb"
                else rng.choice((*files, "/etc/passwd", "config.json"))
            )
    return json.dumps(index).encode(), folder / "model.safetensors.index.json"


def judge(found: Any, arrays: Arrays, gone: list[str]) -> Iterator[str]:
    """Yield what is wrong with what was made of the arrays: each is used with its numbers, or named."""
    from tinymm.pretrained.models.families import model_format_of

    model, report = found
    used = {key for keys in report.keys.values() for key in keys}
    said = {*report.ignored, *report.unexpected, *getattr(report, "unused", ())}
    left = [
        key
        for key in arrays
        if not any(key == k or k.endswith(key) or key.endswith(k) for k in (*used, *said))
    ]
    if left:
        yield f"dropped: {', '.join(left[:3])}"
    state = model.state_dict()
    for name in gone:
        if name in used and not any(
            name.endswith(key) or key.endswith(f".{name}") for key in arrays
        ):
            yield f"invented: {name} was left out, and is used"
    for name, keys in report.keys.items():
        if (
            name in state
            and all(key in arrays for key in keys)
            and not _same(np.asarray(state[name]), [arrays[key] for key in keys])
        ):
            yield f"numbers: {name} has others than {', '.join(keys)} in the file"
    fresh = [
        name for name in state if name not in report.keys and name not in report.newly_initialized
    ]
    if fresh:
        yield f"invented: neither of the file nor named as newly initialized, {', '.join(fresh[:3])}"
    if model_format_of(model).model is not type(model):
        yield "a model of no family"


def _same(held: np.ndarray, parts: list[np.ndarray]) -> bool:
    """Say whether an array has the numbers of those it was made of, in any order: one after the other, or each the same."""
    size = sum(part.size for part in parts)
    sets = [parts] if size <= held.size else [[part] for part in parts]
    if size < held.size:  # keys without a bias of their own: theirs is zero
        sets[0] = [*parts, np.zeros(held.size - size)]
    return all(
        sum(part.size for part in some) == held.size
        and np.allclose(
            np.sort(held, axis=None).astype(np.float64),
            np.sort(np.concatenate([part.astype(np.float64).reshape(-1) for part in some])),
            rtol=1e-3, atol=1e-5, equal_nan=True,
        )
        for some in sets
    )  # fmt: skip
