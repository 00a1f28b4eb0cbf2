"""JSON that holds captions: COCO's, Karpathy's splits, BLIP's lists. Fields are removed, retyped,
renamed, wrapped, repeated, and keys written twice; ids are equal, or of another type; bytes change."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import accounts
from .cases import Trial
from .mutations import changed_bytes, changed_json, json_text, places, repeated_key
from .tables import pictures_of


def coco(rng: random.Random) -> dict[str, Any]:
    """Return COCO's captions of eight pictures."""
    images = [{"id": 100 + i, "file_name": f"p{i}.png", "height": 8, "width": 10} for i in range(8)]
    annotations = [
        {"id": 10 * i + j, "image_id": 100 + i, "caption": accounts.caption(rng, 10 * i + j)}
        for i in range(8) for j in range(rng.randint(1, 2))
    ]  # fmt: skip
    return {"info": {"year": 2014}, "images": images, "annotations": annotations, "licenses": []}


def karpathy(rng: random.Random) -> dict[str, Any]:
    """Return Karpathy's description of eight pictures, with splits."""
    images = []
    for i in range(8):
        texts = [accounts.caption(rng, 10 * i + j) for j in range(rng.randint(1, 2))]
        sentences = [
            {"raw": text, "tokens": text.split(), "imgid": i, "sentid": 10 * i + j}
            for j, text in enumerate(texts)
        ]
        split = ("train", "train", "restval", "train", "val", "test")[i % 6]
        images.append({"filename": f"p{i}.png", "imgid": i, "split": split, "sentences": sentences})
        if rng.random() < 0.2:
            images[-1]["filepath"] = "images"
    return {"images": images, "dataset": "flickr8k"}


def blip(rng: random.Random) -> list[dict[str, Any]]:
    """Return BLIP's list of eight pictures, captions alone or in lists."""
    key, lists = rng.choice(("image", "image", "file_name")), rng.random() < 0.4
    rows = []
    for i in range(8):
        texts = [accounts.caption(rng, 10 * i + j) for j in range(2)]
        rows.append(
            {key: f"p{i}.png", "caption": texts if lists else texts[0], "image_id": f"p{i}"}
        )
    return rows


LAYOUTS = {"coco": coco, "karpathy": karpathy, "blip": blip}


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a file of JSON with a few changes, and the call that loads it."""
    layout = rng.choice(list(LAYOUTS))
    value: Any = LAYOUTS[layout](rng)
    count, said, byte_level = rng.choices((0, 1, 2, 3), (3, 60, 27, 10))[0], [layout], False
    for _ in range(count):
        some = places(value)
        inner = [path for path in some if len(path) >= 2] or some
        said.append(changed_json(rng, value, inner if rng.random() < 0.9 else some))
    if layout == "karpathy" and rng.random() < 0.2:
        for image in _items(value, "images"):
            if isinstance(image, dict) and rng.random() < 0.5:
                image["split"] = rng.choice(list(accounts.SPLITS))
        said.append("other words for splits")
        count += 1
    splits = split_words(value) if layout == "karpathy" else {}
    data = json_text(rng, value, mark=True)
    if rng.random() < 0.06 and count:
        data, change = repeated_key(rng, data)
        said.append(change)
    if rng.random() < 0.15 and count:
        data, change = changed_bytes(rng, data, 2)
        said.append(change)
        byte_level = True
    if rng.random() < 0.01:
        data, byte_level = b"[" * 100_000 + data, True
        said.append("deep")
        count += 1
    name = rng.choice(("captions.json", "captions_train2014.json", "dataset.json"))
    (folder / name).write_bytes(data)
    pictures_of(rng, folder)
    path = folder if rng.random() < 0.7 else folder / name
    if layout == "karpathy" and "train" in name:  # each picture has a split, and the name another
        count += 1
    there = all((folder / f"p{i}.png").exists() for i in range(8))
    return Trial(
        "; ".join(said), accounts.loader(path),
        lambda found: judge(found, value, data, {} if byte_level else splits,
        not byte_level and " near " not in " ".join(said)),
        accounts.status, valid=not count and there,
    )  # fmt: skip


def split_words(value: Any) -> dict[int, str]:
    """Return the word for its split by the number of the picture, where the description is still one."""
    images = value.get("images") if isinstance(value, dict) else None
    found: dict[int, set[str]] = {}
    for image in images if isinstance(images, list) else []:
        if isinstance(image, dict):
            for number, _ in accounts.TOKEN.findall(str(image.get("sentences"))):
                found.setdefault(int(number) // 10, set()).add(str(image.get("split", "")))
    return {number: words.pop() for number, words in found.items() if len(words) == 1}


def judge(
    found: Any, value: Any, data: bytes, splits: dict[int, str], whole: bool
) -> Iterator[str]:
    """Yield what is wrong with what was made of a file of JSON."""
    with suppress(ValueError):  # changed bytes may still be JSON, of other records
        value = json.loads(data.decode("utf-8-sig"))
    ids: dict[int, set[str]] = {}
    files = {
        repr(image.get("id")): image.get("file_name") for image in _dicts(_items(value, "images"))
    }
    for key in ("images", "annotations"):
        for place, image in enumerate(_items(value, key)):
            numbers = {int(n) // 10 for n, _ in accounts.TOKEN.findall(str(image))}
            numbers |= {int(name[1:].split(".")[0]) for name in _names(image)}
            for number in numbers:
                said = {f"image {place}", f"entry {place}", f"annotation {place}"}
                said |= {f"entry {place - 1}"}  # where bytes are gone, two may have become one
                if isinstance(image, dict):
                    called = (image.get(name) for name in ("image", "file_name", "filename"))
                    said |= {f"{name}: " for name in called if isinstance(name, str) and name}
                    keys = [image[name] for name in ("id", "image_id") if name in image]
                    said |= {f"image id {key}" for key in keys}
                    said |= {f"image id {key!r}"[:50] for key in keys}
                    said |= {f"{files[repr(key)]}: " for key in keys if files.get(repr(key))}
                    said |= {f"annotation id {image.get('id')}"} if key == "annotations" else set()
                ids.setdefault(number, set()).update(said)
    if b'"sentences"' in data and not whole:
        return  # their words stand there a second time, in pieces
    yield from accounts.audit(
        found, _told(value, data), lambda number: sorted(ids.get(number // 10, ())), whole=whole
    )
    yield from accounts.held_out(found, splits)


def _told(value: Any, data: bytes) -> list[str]:
    """Return the tokens of captions; Karpathy's `tokens` repeat them in pieces and are left out."""
    images = value.get("images") if isinstance(value, dict) else None
    if isinstance(images, list) and b'"sentences"' in data:
        raw = [sentence.get("raw") for image in images if isinstance(image, dict)
               for sentence in _dicts(image.get("sentences"))]  # fmt: skip
        return accounts.tokens_in(str(raw))
    return accounts.tokens_in(data)


def _dicts(value: Any) -> list[dict]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _items(value: Any, key: str) -> list[Any]:
    inner = value.get(key) if isinstance(value, dict) else value if key == "images" else []
    return inner if isinstance(inner, list) else []


def _names(value: Any) -> list[str]:
    texts = (
        [item for item in value.values() if isinstance(item, str)]
        if isinstance(value, dict)
        else []
    )
    return [
        text.split("/")[-1]
        for text in texts
        if text.split("/")[-1][:2] in {f"p{i}" for i in range(8)} and "." in text
    ]
