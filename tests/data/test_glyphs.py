"""The default data: the fixed held-out set, the honesty of every test, and batches that follow their generator."""

from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.data.builtin import glyphs
from tinymm.data.builtin.fonts import FONTS


@pytest.fixture(scope="module")
def source():
    return glyphs.load()


def as_set(pictures):
    return {picture.tobytes() for picture in pictures}


def pixels(source, images):
    return np.round(source.preprocess.denormalize(images)[..., 0] * 255).astype(np.uint8)


def test_the_characters_are_those_of_the_published_test(source):
    assert len(source.characters) == 1881 and len(source.held_out) == 150 and len(source) == 1731
    assert source.pictures.shape == (6, 1881, 32, 32) and source.pictures.dtype == np.uint8
    held_out = ",".join(str(source.characters[i]) for i in source.held_out)
    assert sha256(held_out.encode()).hexdigest()[:16] == "913ac945a7145216"


def test_look_alikes_are_merged(source):
    assert len(as_set(source.pictures[0])) == len(source.characters)
    assert (
        "latin capital letter a" in source.names
        and "greek capital letter alpha" not in source.names
    )


def test_no_two_characters_share_a_name(source):
    assert len(set(source.names)) == len(source.names)


def test_held_out_characters_and_their_pixels_are_never_trained(source):
    assert not set(source.held_out) & set(source.trained)
    trained = as_set(
        source.pictures[: len(glyphs.TRAINING_FONTS), source.trained].reshape(-1, 32, 32)
    )
    assert not trained & as_set(source.pictures[0, source.held_out])
    assert not trained & as_set(source.pictures[-1, source.held_out])


def test_every_word_of_a_held_out_name_is_in_three_names_and_in_training(source):
    everywhere = Counter(word for name in source.names for word in set(name.split()))
    trained = {word for i in source.trained for word in source.names[i].split()}
    for name in source.held_out_names():
        assert len(name.split()) >= 5
        assert all(everywhere[word] >= 3 and word in trained for word in name.split()), name


def test_the_held_out_face_is_in_no_batch(source, monkeypatch):
    monkeypatch.setattr(source, "strength", 0)
    batch = source.batch(np.arange(1000), np.random.default_rng(0))
    for picture, i in zip(pixels(source, batch.images), batch.image_ids, strict=True):
        assert picture.tobytes() in as_set(source.pictures[: len(glyphs.TRAINING_FONTS), i])
    assert (
        glyphs.HELD_OUT_FONT == "DejaVuSerif-Bold"
        and glyphs.HELD_OUT_FONT not in glyphs.TRAINING_FONTS
    )


def test_few_pictures_of_the_face_test_coincide_with_training(source):
    trained = as_set(
        source.pictures[: len(glyphs.TRAINING_FONTS), source.trained].reshape(-1, 32, 32)
    )
    shared = sum(
        picture.tobytes() in trained
        for picture in source.pictures[-1, source.trained[: glyphs.FONT_TEST]]
    )
    assert shared == 12


def test_validation_shows_pictures_that_no_batch_can_show(source, monkeypatch):
    monkeypatch.setattr(source, "strength", 0)
    validation = source.validation()
    assert len(validation) == 300 and set(validation.captions) <= {
        source.names[i] for i in source.trained
    }
    unseen = as_set(pixels(source, validation.images))
    assert unseen <= as_set(source.pictures[:-1].reshape(-1, 32, 32))
    rng = np.random.default_rng(0)
    for _ in range(12):
        assert not unseen & as_set(pixels(source, source.batch(np.arange(len(source)), rng).images))


def test_the_tests_are_those_of_the_design(source):
    tests = source.tests()
    assert {name: (len(pairs), len(pairs.captions)) for name, pairs in tests.items()} == {
        "unseen_characters": (150, 150), "unseen_font": (1000, 1000), "unseen_characters_all": (150, 1881),
    }  # fmt: skip
    everyone = tests["unseen_characters_all"]
    assert (everyone.image_of_caption == -1).sum() == 1731
    for image, (caption,) in enumerate(everyone.targets_of_images()):
        assert (
            everyone.captions[caption]
            == tests["unseen_characters"].captions[image]
            == source.held_out_names()[image]
        )
    expected = (
        source.pictures[FONTS.index("DejaVuSerif-Bold"), source.trained[7]] / 255 - 0.2
    ) / 0.4
    np.testing.assert_allclose(tests["unseen_font"].images[7, ..., 0], expected, atol=1e-6)


def test_zero_shot_pictures_are_unseen_and_their_prompts_are_trained(source):
    trained = as_set(
        source.pictures[: len(glyphs.TRAINING_FONTS), source.trained].reshape(-1, 32, 32)
    )
    prompts = {
        template.format(phrase)
        for i in source.trained
        for phrase in source._classes[i]
        for template in glyphs.TEMPLATES
    }
    tasks = source.zero_shot()
    assert sorted(tasks) == ["case", "category", "script"]
    for task in tasks.values():
        assert not as_set(pixels(source, task.images)) & trained
        assert set(sum(task.prompts(), [])) <= prompts
        assert min(Counter(task.targets.tolist()).values()) >= 10 and set(task.targets) == set(
            range(len(task.classes))
        )


def test_class_words_are_words_of_the_name(source):
    for name in source.names:
        for words in glyphs.class_words(name).values():
            assert set(words) <= set(name.split()) and len(words) <= 1
    assert glyphs.class_words("greek small letter alpha with psili")["script"] == ("greek",)
    assert glyphs.class_words("black small square")["case"] == ()


def test_captions_are_names_but_for_the_share_of_prompts(source):
    rng = np.random.default_rng(0)
    captions = [
        caption for _ in range(8) for caption in source.batch(np.arange(1000), rng).captions
    ]
    names = {source.names[i] for i in source.trained}
    prompted = [caption for caption in captions if caption not in names]
    assert 0.08 < len(prompted) / len(captions) < 0.12
    full = [caption for caption in prompted if caption.split(" of ", 1)[1] in names]
    assert 0.4 < len(full) / len(prompted) < 0.65
    assert not any(glyphs.load(template_share=0).tokenizer.unknown(captions))


def test_templates_and_names_are_all_known_and_fit(source):
    ids, is_real = source.tokenizer(
        [template.format(name) for name in source.names for template in glyphs.TEMPLATES]
    )
    assert (
        (ids != 1).all()
        and source.tokenizer.cut == 0
        and ids.shape[1] == source.tokenizer.context == 13
    )
    words = {word for name in source.names for word in name.split()}
    assert set(source.tokenizer.vocabulary) - words == {"picture", "drawing"}


def test_a_batch_is_a_function_of_indices_and_generator(source):
    one, two, other = (
        source.batch(np.arange(32), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for field in ("images", "ids", "is_real", "image_ids"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert one.captions == two.captions and not np.array_equal(one.images, other.images)
    assert (
        one.images.shape == (32, 32, 32, 1)
        and one.images.dtype == np.float32
        and one.image_ids.dtype == np.int64
    )
    assert one.ids.shape[1] == one.is_real.sum(axis=1).max()
    np.testing.assert_array_equal(source.tokenizer(one.captions)[0], one.ids)


def test_the_seed_moves_validation_and_never_the_tests():
    one, two = glyphs.load(0), glyphs.load(1)
    np.testing.assert_array_equal(one.held_out, two.held_out)
    assert one.validation().captions != two.validation().captions
    assert one.validation().captions == glyphs.load(0).validation().captions


def test_impossible_settings_are_refused():
    with pytest.raises(
        UsageError, match="from 0 to 1 and a strength from 0 on, but got 2 and 1.0: try"
    ):
        glyphs.load(template_share=2)


def test_the_shared_pictures_cannot_be_written(source):
    with pytest.raises(ValueError, match="read-only"):
        source.pictures[0, 0, 0, 0] = 1
