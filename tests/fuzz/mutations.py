"""What is done to bytes, to text and to JSON: small changes that keep most of the structure."""

import json
import random
from collections.abc import Callable
from typing import Any

#: Values that a field of JSON may come to have, in the place of another.
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**70, 0.5, -0.0, 1e-9, 1e308, float("nan"),
    float("inf"), "", " ", "0", "none", "x" * 3000, "\ud800", "a\x00b", "../canary", "/etc/passwd",
    [],
    {}, [[]], [1, 2, 3], ["a", None], {"__class__": "os.system", "args": ["touch ../canary"]},
    {"__reduce__": ["os.system", "touch ../canary"]}, {"a": {"b": {}}},
)  # fmt: skip
#: Pieces of bytes that mean something to many formats.
PIECES = (b"\x00", b"\xff" * 4, b"\x00" * 8, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\n", b"\r",
b'"', b"\\",
          b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"%s%n", b"../",
          b"PK\x03\x04")  # fmt: skip


def changed_bytes(rng: random.Random, data: bytes, most: int = 4) -> tuple[bytes, str]:
    """Return the bytes with a few changes, and the changes in words."""
    text, said = bytearray(data), []
    for _ in range(rng.randint(1, most)):
        if not text:
            break
        at = rng.randrange(min(len(text), 400) if rng.random() < 0.5 else len(text))
        how = rng.choice(("flip", "set", "cut", "piece", "drop", "repeat", "swap", "zero"))
        said.append(f"{how} at {at}")
        length = rng.choice((1, 2, 4, 8, 16, 100))
        if how == "flip":
            text[at] ^= 1 << rng.randrange(8)
        elif how == "set":
            text[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == "cut" and rng.random() < 0.4:
            del text[at:]
        elif how == "piece":
            text[at:at] = rng.choice(PIECES)
        elif how == "drop":
            del text[at : at + length]
        elif how == "repeat":
            text[at:at] = text[at : at + length]
        elif how == "zero":
            text[at : at + length] = bytes(len(text[at : at + length]))
        else:
            other = rng.randrange(len(text))
            text[at], text[other] = text[other], text[at]
    return bytes(text), f"bytes {', '.join(said)}"


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths of all values inside a value of JSON, the whole left out."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [found for key, inner in items for found in ((*path, key), *places(inner, (*path, key)))]


def parent_of(value: Any, path: tuple) -> Any:
    """Return the object or list that holds the last step of a path."""
    for step in path[:-1]:
        value = value[step]
    return value


def at(value: Any, path: tuple) -> Any:
    """Return what stands at a path."""
    return parent_of(value, path)[path[-1]]


def changed_json(rng: random.Random, value: Any, paths: list[tuple] | None = None) -> str:
    """Change one place of a value of JSON, in place, and return the change in words."""
    paths = paths or places(value)
    if not paths:
        return "nothing to change"
    path = rng.choice(paths)
    holder, key = parent_of(value, path), path[-1]
    how = rng.choice(("remove", "strange", "strange", "near", "retype", "rename", "repeat", "wrap"))
    where = "/".join(map(str, path))
    old = holder[key]
    if how == "remove":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        word = str(key)  # a list that was retyped has numbers for keys
        renamed = rng.choice((word.upper(), word + "s", word + " ", word[:-1], f"{word}_0", "x"))
        holder[renamed] = holder.pop(key)
        return f"{where} renamed {renamed!r}"
    elif how == "repeat" and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), old)
    elif how == "retype":
        holder[key] = retyped(old)
    elif how == "near":
        holder[key] = near(rng, old)
    elif how == "wrap":
        holder[key] = rng.choice(([old], {"value": old}, [old, old]))
    else:
        holder[key] = rng.choice(STRANGE)
    return f"{where} {how} {str(holder[key])[:40] if how != 'remove' else ''}".rstrip()


def retyped(value: Any) -> Any:
    """Return the value as the nearest value of another type."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return int(value) if value.isdecimal() else [value]
    return dict(enumerate(map(str, value))) if isinstance(value, list) else list(value)


def near(rng: random.Random, value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, value, -2 * value))
    if isinstance(value, float):
        return value * rng.choice((0.5, 2, -1, 10))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), value[::-1]))
    if isinstance(value, list):
        return value[:-1] if rng.random() < 0.5 else value + value
    return dict(reversed(value.items())) if isinstance(value, dict) else 0


def json_text(rng: random.Random, value: Any, mark: bool = False) -> bytes:
    """Return a value as JSON in one of the ways in which programs write it, now and then with a byte-order mark."""
    ways: tuple[Callable[[], str], ...] = (
        lambda: json.dumps(value),
        lambda: json.dumps(value, indent=1),
        lambda: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    )
    text = rng.choice(ways)()
    lead = b"\xef\xbb\xbf" if mark and rng.random() < 0.1 else b""
    try:
        return lead + text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair can only be written as an escape
        return lead + json.dumps(value).encode()


def repeated_key(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """Return JSON in which an object has one of its keys twice, the first time with another value."""
    spots = [
        i for i in range(len(text) - 1) if text[i : i + 1] == b"{" and text[i + 1 : i + 2] == b'"'
    ]
    if not spots:
        return text, "no key to repeat"
    spot = rng.choice(spots)
    key = text[spot + 1 : text.index(b'"', spot + 2) + 1]
    return text[: spot + 1] + key + b': "k990s again k990e", ' + text[
        spot + 1 :
    ], f"key {key.decode()} twice"
