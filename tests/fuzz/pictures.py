"""Pictures of every format that is read, and of some that are not: bytes flipped, cut and put in,
headers with other sizes, extreme shapes, odd modes, palettes, EXIF entries, several frames."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Trial
from .mutations import changed_bytes

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"), "PPM": ("1", "L", "RGB", "I;16"), "ICO": ("RGBA",),
    "TGA": ("RGB",), "PCX": ("RGB",),
}  # fmt: skip
SUFFIX = {"JPEG": "jpg", "PPM": "pgm", "TIFF": "tif"}
SIDES = (1, 2, 3, 255, 256, 1000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@cache
def base(kind: str, mode: str, shape: tuple[int, int], extra: str = "") -> bytes:
    """Return a picture of a format and mode."""
    from PIL import Image

    width, height = shape
    rng = np.random.default_rng(width + height)
    rgb = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    image = (
        rgb.convert("L").convert("I").convert("I;16")
        if mode == "I;16"
        else rgb.convert("RGB").convert(mode)
        if mode != "LAB"
        else _lab(rgb)
    )
    options: dict[str, Any] = {}
    if extra == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    elif extra == "frames" and kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"save_all": True, "append_images": [image] * 3}
    elif extra == "progressive" and kind == "JPEG":
        options = {"progressive": True}
    elif extra == "packed" and kind == "TIFF":
        options = {"compression": "tiff_lzw" if mode != "1" else "group4"}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _lab(rgb: Any) -> Any:
    from PIL import Image

    return Image.merge("LAB", rgb.split())


def png(
    width: int, height: int, depth: int = 8, color: int = 2, rows: bytes | None = None
) -> bytes:
    """Return a PNG that says it is so large, with as many bytes as given or as the size asks for, up to a megabyte."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    needed = height * (1 + (width * channels * depth + 7) // 8)
    raw = rows if rows is not None else bytes(min(needed, 2**22))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(6))] if color == 3 else []
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def drawn(rng: random.Random) -> tuple[bytes, str, str, bool]:
    """Return a picture's bytes, its suffix, what was done to it, and whether it is whole and of a kind that is read."""
    if rng.random() < 0.12:
        width, height = rng.choice(((3000, 1), (1, 3000), (30_000, 1), (1, 60_000), (8192, 8192),
        (2**26, 1), (1, 2**20), (1, 1),
                                    (rng.choice(SIDES), rng.choice(SIDES)), (2, 40_000),
                                    (20_000, 3)))  # fmt: skip
        depth, color = rng.choice(
            ((8, 2), (8, 0), (16, 0), (1, 0), (8, 3), (16, 6), (16, 2), (3, 2), (8, 5))
        )
        return (
            png(width, height, depth, color),
            "png",
            f"a PNG of {width} × {height}, {depth} bits, color {color}",
            False,
        )
    kind = rng.choice(list(FORMATS))
    mode = rng.choice(FORMATS[kind])
    extra = rng.choice(("", "", "exif", "frames", "progressive", "packed"))
    shape = rng.choice(((16, 12), (1, 1), (7, 40), (33, 5)))
    data, said, suffix = (
        base(kind, mode, shape, extra),
        f"{kind} {mode} {extra}",
        SUFFIX.get(kind, kind.lower()),
    )
    whole = kind not in ("ICO", "TGA", "PCX") and mode not in ("F", "LAB")
    count = rng.choices((0, 1, 2), (8, 72, 20))[0]
    for _ in range(count):
        data, change = changed(rng, data, kind)
        said += f"; {change}"
    if rng.random() < 0.05:
        suffix = rng.choice(("png", "jpg", "gif", "bmp", "webp"))
    return data, suffix, said, whole and not count


def changed(rng: random.Random, data: bytes, kind: str) -> tuple[bytes, str]:
    """Return a picture with a change in its bytes, its head, its sizes, or with other bytes behind it."""
    how = rng.choice(("bytes", "bytes", "head", "cut", "tail", "sizes", "chunk", "join"))
    if how == "head":
        head, said = changed_bytes(rng, data[:64], 2)
        return head + data[64:], f"head {said}"
    if how == "cut":
        return data[: rng.randrange(len(data) + 1)], how
    if how == "tail":
        return data + bytes(rng.randrange(256) for _ in range(rng.choice((1, 100)))), how
    if how == "join":
        return data + base("JPEG", "RGB", (16, 12)), how
    if how == "sizes" and kind in ("PNG", "BMP", "GIF", "PPM"):
        side = rng.choice(SIDES)
        spot, form = {"PNG": (16, ">I"), "BMP": (18, "<I"), "GIF": (6, "<H"), "PPM": (0, "")}[kind]
        if kind == "PPM":
            return data.replace(b"16", str(side).encode(), 1), f"side {side}"
        spot += rng.choice((0, struct.calcsize(form)))
        packed = struct.pack(form, side & (0xFFFF if form == "<H" else 0xFFFFFFFF))
        data = data[:spot] + packed + data[spot + len(packed) :]
        if kind == "PNG":
            data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
        return data, f"side {side}"
    if (
        how == "chunk" and kind == "PNG"
    ):  # a text of megabytes in a few bytes, and an ICC profile of nothing
        name, inner = rng.choice(((b"zTXt", b"a\x00\x00" + zlib.compress(bytes(2**24))),
        (b"iCCP", b"x\x00\x00" + zlib.compress(b"?" * 300)),
                                  (b"tRNS", b"\x00"), (b"acTL", bytes(8)),
                                  (b"eXIf", b"MM\x00*" + bytes(20))))  # fmt: skip
        piece = (
            struct.pack(">I", len(inner))
            + name
            + inner
            + struct.pack(">I", zlib.crc32(name + inner))
        )
        return data[:33] + piece + data[33:], f"chunk {name.decode()}"
    return changed_bytes(rng, data, 4)


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a picture with a few changes, and the call that makes a model's input of it."""
    data, suffix, said, whole = drawn(rng)
    path = folder / f"a.{suffix}"
    path.write_bytes(data)
    as_path, style = rng.random() < 0.7, rng.choice(("shorter_side", "square"))
    channels, training = rng.choice((3, 3, 1)), rng.random() < 0.5
    side = rng.choice((8, 32, 224))

    def act() -> list[np.ndarray]:
        from tinymm.data import images

        source: Any = path if as_path else data
        images.check_header(source)
        mean = (0.5,) * channels
        prepare = images.Preprocess(side, channels, mean, mean, style)
        found = [images.read(source), prepare(source)]
        return [*found, prepare.resized(source, round(side * 1.125))] if training else found

    return Trial(
        f"{said}, {style} {side}", act, lambda found: judge(found, side, channels), valid=whole
    )


def judge(found: list[np.ndarray], side: int, channels: int) -> Iterator[str]:
    """Yield what is wrong with what was made of a picture."""
    pixels, prepared = found[0], found[1]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        yield f"a picture became {pixels.shape} of {pixels.dtype}"
    if (
        prepared.shape != (side, side, channels)
        or prepared.dtype != np.float32
        or not np.isfinite(prepared).all()
    ):
        yield f"a model's input became {prepared.shape} of {prepared.dtype}, finite: {np.isfinite(prepared).all()}"
    if len(found) > 2 and found[2].nbytes > 2**28:
        yield f"what training keeps of a picture has {found[2].nbytes:,} bytes"
