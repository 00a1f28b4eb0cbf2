"""One look: files whole or absent, any caption drawable, colors apart for all kinds of color vision."""

import io
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style

PAGE = style.new_figure(1, 1).add_axes((0, 0, 1, 1))


def drawing():
    figure = style.new_figure(1, 1)
    figure.alt = "ln N = 4.85 · ünï"
    return figure


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_saves_whole_files(tmp_path, kind):
    path = style.save(drawing(), tmp_path / f"a.{kind}")
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert [item.name for item in tmp_path.iterdir()] == [f"a.{kind}"]


def test_a_png_carries_its_alt_text(tmp_path):
    with Image.open(style.save(drawing(), tmp_path / "a.png")) as picture:
        assert picture.text["Description"] == "ln N = 4.85 · ünï"


def test_a_failure_while_drawing_leaves_the_old_file(tmp_path, monkeypatch):
    path = style.save(drawing(), tmp_path / "a.png")
    before, figure = path.read_bytes(), drawing()

    def half(file, **_):
        file.write(b"\x89PNG half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        style.save(figure, path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["a.bmpx", "a", "a.PNG "])
def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(DataError, match=r"ends in its format.*use \.png"):
        style.save(drawing(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_no_global_state():
    before = dict(matplotlib.rcParams)
    drawing()._repr_png_()
    assert dict(matplotlib.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_shows_itself_in_a_notebook_with_alt_text():
    data, about = drawing()._repr_png_()
    assert Image.open(io.BytesIO(data)).size == (144, 144)
    assert about == {"width": 96, "height": 96, "alt": "ln N = 4.85 · ünï"}


@given(st.text(max_size=30))
@example("$x^{2$")
@example("\U0001f680 \t\x00")
def test_any_caption_can_be_drawn(text):
    """Warnings are errors here: a missing letter, or a formula between dollar signs, would be one."""
    written = style.write(PAGE, 0, 0, style.wrapped(text, 10, 2))
    written.get_window_extent()  # lays the letters out, which is where both would show
    written.remove()


@pytest.mark.parametrize(
    "finding",
    [
        "WWW " * 30,
        "iii " * 30,
        "Below knowing nothing: ITC (1.22 < 4.16), ITG (0.92 < 4.09); not below: ITM (0.65)",
    ],
)
@pytest.mark.parametrize("width", [3, 8])
def test_a_headline_stays_on_the_page(finding, width):
    figure = style.new_figure(width, 4)
    style.headline(figure, finding)
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1
    assert figure.texts[0].get_text().split() == finding.split()


@given(st.text(max_size=80), st.integers(5, 20), st.integers(1, 3))
def test_wrapped_fits(text, width, lines):
    rows = style.wrapped(text, width, lines).split("\n")
    assert len(rows) <= lines and max(map(len, rows)) <= width
    if len(style.readable(text)) <= width:
        assert "".join(rows).strip() == style.readable(text)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_pictures_become_rgb(shape):
    picture = np.linspace(-0.5, 1.5, int(np.prod(shape))).reshape(shape)
    rgb = style.as_rgb(picture)
    assert rgb.shape == (4, 6, 3)
    np.testing.assert_allclose(
        rgb, np.broadcast_to(np.clip(picture, 0, 1).reshape(4, 6, -1), (4, 6, 3)), rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (1, 4, 4, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ShapeError, match="channels come last"):
        style.as_rgb(np.zeros(shape))


def test_thumbnails_keep_the_limits_and_the_proportions():
    figure = style.new_figure(2, 2)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 2), ylim=(2, 0))
    style.thumbnail(axes, np.zeros((10, 20)), 1, 1, 0.8)
    assert axes.get_xlim() == (0, 2) and axes.get_ylim() == (2, 0)
    left, right, bottom, top = axes.images[0].get_extent()
    np.testing.assert_allclose([left, right, bottom, top], [0.6, 1.4, 1.2, 0.8])


def linear(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    light, dark = sorted(
        (linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def test_words_in_our_colors_can_be_read_on_white():
    for color in (style.PICTURE, style.TEXT, style.QUERY, style.RIGHT, style.INK):
        assert contrast(color, "#FFFFFF") >= 4.5  # WCAG AA


DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)


@pytest.mark.parametrize(
    "vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["common", "deuteranopia", "protanopia"]
)
def test_the_three_kinds_stay_apart(vision):
    """Machado, Oliveira and Fernandes (2009), full severity, in linear light."""
    seen = [
        np.clip(vision @ linear(color), 0, 1) ** (1 / 2.2)
        for color in (style.PICTURE, style.TEXT, style.QUERY)
    ]
    for i in range(3):
        for j in range(i):
            assert np.linalg.norm(seen[i] - seen[j]) > 0.2
