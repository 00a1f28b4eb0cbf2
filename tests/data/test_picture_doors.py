"""A picture is the same by whichever door it comes in, and no picture makes more than it is worth."""

import tracemalloc
import warnings
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tinymm.arrays.errors import DataError
from tinymm.data import images
from tinymm.data.images import Preprocess, frames_of, preprocess, read
from tinymm.data.your_data import pairs

COLORS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
RAMP = np.linspace(0, 65535, 20 * 30).reshape(20, 30)


def sixteen(mode):
    return (
        Image.fromarray(RAMP.astype(np.uint16))
        if mode == "I;16"
        else Image.frombytes(mode, (30, 20), RAMP.astype(">u2").tobytes())
    )


def saved(image, kind, **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PALETTE = COLORS.convert("P")
FILES = {
    "gray": saved(COLORS.convert("L"), "PNG"), "1 bit": saved(COLORS.convert("1"), "PNG"), "LA": saved(COLORS.convert("LA"), "PNG"),
    "PA": saved(COLORS.convert("PA"), "TIFF"), "palette": saved(PALETTE, "GIF"), "CMYK": saved(COLORS.convert("CMYK"), "JPEG"),
    "palette with transparency": saved(PALETTE, "PNG", transparency=bytes(10) + b"\xff" * 246), "RGBA": saved(COLORS.convert("RGBA"), "PNG"),
    "tRNS": saved(COLORS, "PNG", transparency=(1, 2, 3)), "EXIF": saved(COLORS, "JPEG", exif=turned()), "LAB": saved(COLORS.convert("LAB"), "TIFF"),
    "16 bits": saved(sixteen("I;16"), "PNG"), "16 bits, big-endian": saved(sixteen("I;16B"), "TIFF"),
    "16 bits, PGM": b"P5 30 20 65535\n" + RAMP.astype(">u2").tobytes(), "16 dark bits, PGM": b"P5 30 20 65535\n" + bytes([0, 99]) * 600,
    "32 bits": saved(Image.fromarray((RAMP * 1000).astype(np.int32)), "TIFF"), "32 bits, small": saved(COLORS.convert("I"), "TIFF"),
    "floats": saved(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), "large floats": saved(COLORS.convert("F"), "TIFF"),
}  # fmt: skip


def told(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call()
        except DataError as problem:
            return str(problem)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_path_bytes_and_an_opened_image_give_the_same_numbers_or_the_same_sentence(
    tmp_path, name, channels
):
    path = tmp_path / "picture"
    path.write_bytes(FILES[name])
    prepare = Preprocess(16, channels, (0.5,) * channels, (0.25,) * channels)
    with Image.open(path) as image:
        results = [
            told(lambda door=door: prepare.pixels(door)) for door in (path, FILES[name], image)
        ]
    texts = [
        result.replace(str(path), "a picture") if isinstance(result, str) else result.tolist()
        for result in results
    ]
    assert texts[0] == texts[1] == texts[2]
    assert isinstance(results[0], str) == (
        name in ("32 bits", "32 bits, small", "large floats") or (name, channels) == ("LAB", 1)
    )


def test_sixteen_bits_keep_their_shades_by_every_door():
    for door in (FILES["16 bits"], FILES["16 bits, big-endian"], FILES["16 bits, PGM"], sixteen("I;16"), RAMP.astype(np.uint16), FILES["floats"],
                 Image.fromarray(RAMP.astype(np.int32)), Image.fromarray((RAMP / 65535).astype(np.float32))):  # fmt: skip
        assert abs(Preprocess(16, resize="square").pixels(door).mean() - 127.5) < 1
    np.testing.assert_array_equal(
        read(FILES["16 bits"])[..., 0], (RAMP.astype(np.uint16) >> 8).astype(np.uint8)
    )
    colors = np.asarray(COLORS).astype(np.uint16) << 8
    np.testing.assert_array_equal(Preprocess(16).pixels(colors), Preprocess(16).pixels(COLORS))


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 256.0]]),
        np.array([[-0.1, 0.5]]),
        np.array([[0, np.nan]]),
        np.array([[0, np.inf]]),
    ],
    ids=["large", "negative", "nan", "inf"],
)
def test_grays_of_no_known_scale_are_refused(values):
    with pytest.raises(DataError, match=r"a picture has 32 \(mode F\), from .* scale it"):
        Preprocess(4).pixels(Image.fromarray(values.astype(np.float32)))


@pytest.mark.parametrize(
    "door",
    [None, 3, [[0]], "bytearray", "masked", "bool", "float", "complex", "object", "four channels"],
)
def test_other_things_are_refused_in_a_sentence(door):
    things = {
        "bytearray": bytearray(4), "masked": np.ma.masked_array(np.zeros((4, 4), np.uint8), mask=True), "bool": np.zeros((4, 4), bool),
        "float": np.zeros((4, 4)), "complex": np.zeros((4, 4), complex), "object": np.zeros((4, 4), object),
        "four channels": np.zeros((4, 4, 4), np.uint8),
    }  # fmt: skip
    with pytest.raises(DataError, match="A picture is a path|A picture array is"):
        Preprocess(4).pixels(things.get(door, door) if isinstance(door, str) else door)


def test_an_opened_image_that_is_cut_off_or_too_large_is_refused_like_its_file(
    tmp_path, monkeypatch
):
    path = tmp_path / "half.png"
    path.write_bytes(FILES["gray"][: len(FILES["gray"]) // 2])
    with (
        Image.open(path) as image,
        pytest.raises(DataError, match="half.png is damaged or cut off"),
    ):
        Preprocess(4).pixels(image)
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    for door in (COLORS, np.asarray(COLORS), FILES["gray"]):
        with pytest.raises(DataError, match="at most 100 pixels"):
            Preprocess(4).pixels(door)


# ---------------------------------------------------------------------- what is made of a picture
def whole(prepare, picture):
    """Resize all of it and crop, as the original code does."""
    w, h = picture.size
    n, short = prepare.resolution, min(w, h)
    w, h = (n if side == short else int(n * side / short) for side in (w, h))
    large = np.asarray(picture.resize((w, h), Image.Resampling.BICUBIC))
    top, left = (int(round((side - n) / 2)) for side in (h, w))
    return large[top : top + n, left : left + n]


@given(
    st.integers(1, 6),
    st.integers(1, 300),
    st.sampled_from([4, 7, 16]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_a_long_picture_gives_the_pixels_of_all_of_it_resized(short, long, n, tall, seed):
    size = (long, short) if tall else (short, long)
    picture = Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    )
    prepare = Preprocess(n)
    ours, theirs = prepare.pixels(picture).astype(int), whole(prepare, picture).astype(int)
    if max(size) <= images.LONGEST * min(size):
        np.testing.assert_array_equal(ours, theirs)
    elif n * long % short == 0:  # the enlarged length is a whole number: the same grid
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1)
    assert ours.shape == (n, n, 3)


@pytest.mark.parametrize("size", [(3_000, 1), (1, 65_000), (60_000, 7)])
def test_a_thin_picture_takes_no_more_memory_than_others(size):
    picture = saved(Image.new("RGB", size, (9, 99, 199)), "PNG")
    tracemalloc.start()
    for call in (Preprocess(224).pixels, Preprocess(224).resized):
        result = call(picture)
        assert (
            result.size <= 3 * 224 * 224 * (images.LONGEST + 2) and (result == (9, 99, 199)).all()
        )
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize("size", [(images.MAX_SIDE + 1, 1), (1, images.MAX_SIDE + 1)])
def test_a_side_beyond_all_cameras_is_refused(size):
    with pytest.raises(DataError, match="sides have at most 131072 pixels"):
        read(saved(Image.new("L", size), "PNG"))


@pytest.mark.filterwarnings("error")
def test_odd_metadata_warn_of_nothing():
    content = saved(
        COLORS, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1\x12"
    )  # a directory that is cut off
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(BytesIO(content)) as theirs:
        ImageOps.exif_transpose(theirs)
    np.testing.assert_array_equal(read(content), np.asarray(COLORS))
    assert frames_of(content) == 1


def test_training_survives_a_thin_picture(tmp_path):
    for i in range(6):
        Image.new("RGB", (30_000, 1) if i < 2 else (12, 10), (i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"thing {i}")
    source = pairs.load(tmp_path, resolution=32)
    assert source.batch(np.arange(len(source)), np.random.default_rng(0)).images.shape == (
        len(source),
        32,
        32,
        3,
    )
    assert not source.skipped and sum(picture.nbytes for picture in source._cache.values()) < 1e6


def test_further_frames_are_counted_and_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (200, 100, 50)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert frames_of(content) == 3 and abs(read(content)[..., 0].mean() - 200) < 6
        (tmp_path / f"{kind}.{kind.lower()}").write_bytes(content)
        (tmp_path / f"{kind}.txt").write_text(f"moving {kind}")
    report = pairs.check(tmp_path)
    assert "4 pictures of several frames, the first of which is used (GIF.gif: 3, " in "\n".join(
        report.lines()
    )
    assert preprocess("clip", 8).pixels(tmp_path / "GIF.gif").shape == (8, 8, 3)
