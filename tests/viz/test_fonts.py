"""Letters beyond DejaVu Sans: drawn by a font that has them, or named; letters twice as wide."""

import warnings

import numpy as np
import pytest

from tinymm.viz import fonts, style
from tinymm.viz.captions import captions


@pytest.fixture
def alone(monkeypatch):
    """Let this machine have no font but Matplotlib's."""
    monkeypatch.setattr(fonts, "_installed", lambda: [])
    monkeypatch.setattr(fonts, "_found", {})
    monkeypatch.setattr(fonts, "_missing", {})
    monkeypatch.setattr(fonts, "FAMILIES", ["DejaVu Sans"])


def test_what_no_font_has_is_a_box_and_is_named_once(alone):
    assert style.readable("a 猫 แมว") == "a □ □□□"
    said = fonts.not_drawn()
    assert (
        said.startswith("no font on this machine has Chinese characters, Thai: pictures show □")
        and "apt-get install" in said
    )
    assert fonts.not_drawn() is None and style.readable("猫") == "□"


def test_a_font_that_has_a_letter_is_found_once_and_kept(alone, monkeypatch):
    from matplotlib.font_manager import findfont, get_font

    path = findfont("DejaVu Sans Mono")
    monkeypatch.setattr(fonts, "_own", lambda: frozenset(map(ord, "a ")))
    monkeypatch.setattr(fonts, "_installed", lambda: [("/nowhere.ttf", {}), (path, {})])
    assert (
        style.readable("a bé") == "a bé"
        and fonts.FAMILIES == ["DejaVu Sans", get_font(path).family_name]
        and fonts.not_drawn() is None
    )


def test_lines_count_wide_letters_twice(monkeypatch):
    monkeypatch.setattr(fonts, "has", lambda letter: True)
    assert style.in_lines("红色的猫 a cat", 6) == ["红色的", "猫 a", "cat"]
    assert style.wrapped("红色的猫在桌子上", 8, 2) == "红色的猫\n在桌子上"


def test_captions_of_any_script_are_drawn_without_a_warning(tmp_path):
    written = ["一只红色的猫坐在蓝色的桌子上面", "แมวสีแดง", "😀 cat", "ខ្ញុំ"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.save(
            captions(np.zeros((4, 4, 4, 3)), written, [["红"]] * 4, title="猫"), tmp_path / "a.png"
        )
    fonts.not_drawn()
