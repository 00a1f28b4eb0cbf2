"""Captions as the web has them: a known share of them is wrong, and each wrong one is plausible, never held out, and never people's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError
from tinymm.data.builtin.shapes import RENDERINGS, split
from tinymm.data.builtin.web_pairs import BY_PEOPLE, WebPairs

WEB, CLEAN = WebPairs(), WebPairs(wrong=0.0)
HELD_OUT, SCENES = split()
OWN = [scene.captions() for scene in SCENES]


def truth(web):
    """Return which web pictures have a true caption, by the scenes themselves."""
    return np.array([web.texts[i][0] in OWN[i // RENDERINGS] for i in web.web_pictures()])


@pytest.mark.parametrize("wrong", [0.1, 0.4, 0.9])
def test_the_share_of_wrong_captions_is_what_was_asked(wrong):
    found = truth(WebPairs(wrong=wrong))
    assert len(found) == 231 * (RENDERINGS - BY_PEOPLE)
    assert abs((~found).mean() - wrong) < 4 * np.sqrt(wrong * (1 - wrong) / len(found))


def test_all_are_true_or_none_at_the_ends():
    assert truth(CLEAN).all() and not truth(WebPairs(wrong=1.0)).any()
    assert [len(texts) for texts in CLEAN.texts] == [1] * len(SCENES) * RENDERINGS


def test_a_wrong_caption_is_another_training_scene_s_and_almost_right():
    trained = {caption for captions in OWN for caption in captions}
    held_out = {caption for scene in HELD_OUT for caption in scene.captions()}
    distances = set()
    for i, (text,) in enumerate(WEB.texts):
        assert text in trained and text not in held_out
        if text not in OWN[i // RENDERINGS]:
            pairs = [
                list(zip(text.split(), own.split(), strict=False))
                for own in OWN[i // RENDERINGS]
                if len(own.split()) == len(text.split())
            ]
            distances.add(min(sum(a != b for a, b in pair) for pair in pairs))
    assert distances == {1, 2}


def test_wrong_captions_differ_from_picture_to_picture_and_both_true_ones_are_told():
    for scene in (0, 100, 230):
        texts = {WEB.texts[i][0] for i in range(scene * RENDERINGS, (scene + 1) * RENDERINGS)}
        assert set(OWN[scene]) < texts and len(texts - set(OWN[scene])) > 3


def test_what_people_have_looked_at_is_right():
    people = WEB.by_people()
    seen = [i for i, texts in enumerate(people.texts) if texts]
    assert seen == [
        scene * RENDERINGS + first for scene in range(231) for first in range(BY_PEOPLE)
    ]
    assert not set(seen) & set(WEB.web_pictures().tolist()) and len(seen) + len(
        WEB.web_pictures()
    ) == len(WEB.texts)
    assert all(
        people.texts[i] == WEB.texts[i] and people.texts[i][0] in OWN[i // RENDERINGS] for i in seen
    )
    batch = people.batch(people.batch_indices(231, 0, 0), np.random.default_rng(0))
    assert set(batch.image_ids.tolist()) <= set(seen) and len(set(batch.image_ids.tolist())) == 231


@pytest.mark.parametrize("web", [WEB, CLEAN], ids=["noisy", "clean"])
def test_the_draw_is_fixed_for_good(web):
    again = WebPairs(seed=9, wrong=web.wrong)  # the seed chooses the validation pictures alone
    assert again.texts == web.texts
    assert not np.array_equal(again.validation().images, web.validation().images)


def test_only_training_is_noisy():
    for name in ("validation", "tests"):
        noisy, clean = (
            [sets] if name == "validation" else list(sets.values())
            for sets in (getattr(web, name)() for web in (WEB, CLEAN))
        )
        for a, b in zip(noisy, clean, strict=True):
            assert a.captions == b.captions and np.array_equal(a.images, b.images)
    true = {str(scene): scene.captions() for scene in (*HELD_OUT, *SCENES)}
    assert all(
        caption in true
        for caption in [*WEB.validation().captions, *WEB.tests()["held_out"].captions]
    )
    assert WEB.swaps().keys() == CLEAN.swaps().keys()


@given(
    indices=st.lists(st.integers(0, 230), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 999),
)
def test_a_batch_gives_a_picture_of_each_scene_with_one_of_its_own_captions(indices, seed):
    batch = WEB.batch(np.array(indices), np.random.default_rng(seed))
    assert (batch.image_ids // RENDERINGS).tolist() == indices and batch.image_ids.dtype == np.int64
    assert all(
        text in WEB.texts[i] for text, i in zip(batch.captions, batch.image_ids, strict=True)
    )
    shown = np.stack([WEB.pictures[i // RENDERINGS, i % RENDERINGS] for i in batch.image_ids])
    np.testing.assert_array_equal(batch.images, WEB.preprocess.normalize(shown))
    ids, is_real = WEB.tokenizer(batch.captions)
    np.testing.assert_array_equal(batch.ids, ids)
    np.testing.assert_array_equal(batch.is_real, is_real)


def test_every_rendering_of_a_scene_is_shown():
    drawn = {
        int(WEB.batch(np.array([7]), np.random.default_rng(seed)).image_ids[0])
        for seed in range(400)
    }
    assert drawn == set(
        range(7 * RENDERINGS, 8 * RENDERINGS)
    )  # and not the rendering that is validation's


def test_other_captions_keep_the_pictures_and_the_words():
    framed = WebPairs()
    framed.tokenizer = framed.tokenizer.with_frame()
    texts = list(WEB.texts)
    texts[: RENDERINGS - 1] = [()] * (RENDERINGS - 1)
    texts[RENDERINGS - 1] = ("first", "second")
    other = framed.with_captions(texts)
    assert (
        other.tokenizer is framed.tokenizer
        and other.pictures is WEB.pictures
        and other.wrong == WEB.wrong
    )
    assert framed.texts == WEB.texts, "the source itself has not changed"
    batches = [other.batch(np.array([0, 1]), np.random.default_rng(seed)) for seed in range(10)]
    assert {batch.image_ids[0] for batch in batches} == {RENDERINGS - 1} and {
        batch.captions[0] for batch in batches
    } == {"first", "second"}
    assert len({batch.image_ids[1] for batch in batches}) > 3
    np.testing.assert_array_equal(batches[0].images[0], WEB.images(np.array([RENDERINGS - 1]))[0])
    np.testing.assert_array_equal(
        batches[0].images[0], WEB.preprocess.normalize(WEB.pictures[0, RENDERINGS - 1])
    )


def test_scenes_need_not_stand_beside_their_neighbors():
    scattered = WebPairs(neighbors=False)
    assert not np.array_equal(scattered.batch_indices(20, 0, 0), WEB.batch_indices(20, 0, 0))
    for source in (scattered, WEB):
        np.testing.assert_array_equal(
            source.by_people().batch_indices(20, 0, 0), source.batch_indices(20, 0, 0)
        )


def test_a_caption_is_true_of_its_scene_in_both_wordings():
    for scene in (0, 230):
        for picture in (scene * RENDERINGS, (scene + 1) * RENDERINGS - 1):
            assert all(WEB.is_true(picture, text) for text in OWN[scene]) and not any(
                WEB.is_true(picture, text) for text in OWN[scene - 1]
            )
            assert not WEB.is_true(picture, OWN[scene][0] + " again") and not WEB.is_true(
                picture, ""
            )


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(wrong):
    with pytest.raises(
        DataError,
        match=rf"the share of wrong captions lies in \[0, 1\], and {wrong} came; the default is 0.4",
    ):
        WebPairs(wrong=wrong)


def test_each_picture_has_its_captions_and_each_scene_one_at_least():
    with pytest.raises(
        DataError,
        match=r"11088 pictures have a tuple of captions each, and 3 came; give \(\) for none",
    ):
        WEB.with_captions([("a",)] * 3)
    with pytest.raises(
        DataError, match="and scene 5 has one left for none of its pictures; filter less"
    ):
        WEB.with_captions(
            [() if i // RENDERINGS == 5 else texts for i, texts in enumerate(WEB.texts)]
        )
