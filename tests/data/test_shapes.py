"""Scenes and their captions, right and wrong: what the shapes data promises a training run and a test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.data.batches import Swaps
from tinymm.data.builtin import shapes
from tinymm.data.builtin.scenes import OPPOSITE, all_scenes, drawn
from tinymm.data.builtin.sentences import Sentences

SOURCE = shapes.load()
scenes = st.sampled_from(all_scenes())


@given(scene=scenes)
def test_swaps_of_a_scene_have_its_words_and_are_false(scene):
    wrong = scene.swapped()
    bag = sorted(str(scene).split())
    assert [sorted(wrong[kind].split()) == bag for kind in ("attribute", "object", "relation")] == [
        True
    ] * 3
    assert len(set(wrong.values())) == 6 and not set(wrong.values()) & set(scene.captions())
    one, other = scene.captions()
    first, second = one.split(f" {scene.relation} ")
    assert other == f"{second} {OPPOSITE[scene.relation]} {first}"


@given(scene=scenes, seed=st.integers(0, 999))
def test_a_picture_shows_what_its_caption_says(scene, seed):
    # The mean place of each color, read off the pixels: no drawing code is asked.
    picture = drawn(scene, np.random.default_rng(seed)).astype(int)
    reference = {
        "red": (255, 0, 0),
        "green": (0, 128, 0),
        "blue": (0, 0, 255),
        "yellow": (255, 255, 0),
    }
    places = []
    for thing in (scene.first, scene.second):
        near = np.abs(picture - np.array(reference[thing.color])).sum(axis=-1) < 60
        assert near.sum() >= 4
        places.append(np.argwhere(near).mean(axis=0))
    (y, x), (v, u) = places
    assert {"left of": x < u, "above": y < v}[scene.relation]
    assert {"left of": abs(x - u) > abs(y - v), "above": abs(y - v) > abs(x - u)}[scene.relation]


def test_no_held_out_scene_and_none_of_its_captions_is_trained_on():
    held_out = {caption for scene in SOURCE.held_out for caption in scene.captions()}
    trained = {caption for captions in SOURCE.captions() for caption in captions}
    assert len(SOURCE) + len(SOURCE.held_out) == 288 and not held_out & trained
    seen = {
        caption
        for step in range(5)
        for caption in SOURCE.batch(
            SOURCE.batch_indices(48, step, 0), np.random.default_rng(step)
        ).captions
    }
    assert seen and not seen & held_out
    words = {word for caption in trained for word in caption.split()}
    assert {word for caption in held_out for word in caption.split()} <= words


@given(size=st.integers(2, 231), step=st.integers(0, 50), seed=st.integers(0, 3))
def test_a_batch_is_made_of_neighbors_and_holds_no_scene_twice(size, step, seed):
    indices = SOURCE.batch_indices(size, step, seed)
    assert len(indices) == size == len(set(indices.tolist()))
    np.testing.assert_array_equal(indices, SOURCE.batch_indices(size, step, seed))
    groups = {}
    for i in indices:
        scene = SOURCE.scenes[i]
        groups.setdefault(frozenset((scene.first, scene.second)), []).append(scene)
    total = {}
    for scene in SOURCE.scenes:
        total[frozenset((scene.first, scene.second))] = (
            total.get(frozenset((scene.first, scene.second)), 0) + 1
        )
    assert (
        sum(len(some) < total[pair] for pair, some in groups.items()) <= 1
    )  # only the last group may be cut


def test_without_neighbors_batches_are_plain_permutations():
    source = shapes.load(neighbors=False)
    assert (
        len(set(np.concatenate([source.batch_indices(77, step, 0) for step in range(3)]).tolist()))
        == 231
    )
    with pytest.raises(UsageError, match="no scene twice, and 232 of 231 came; lower --batch-size"):
        source.batch_indices(232, 0, 0)


def test_what_it_hands_out():
    batch = SOURCE.batch(np.array([3, 5]), np.random.default_rng(0))
    assert (
        batch.images.shape == (2, 32, 32, 3)
        and batch.images.dtype == np.float32
        and batch.image_ids.tolist() == [3, 5]
    )
    assert all(
        c in SOURCE.scenes[i].captions()
        for i, c in zip(batch.image_ids, batch.captions, strict=True)
    )
    test, validation = SOURCE.tests()["held_out"], SOURCE.validation()
    assert (len(test), len(validation)) == (57, 100) and not set(test.captions) & set(
        validation.captions
    )
    assert SOURCE.references(test)[0] == SOURCE.held_out[0].captions()
    for swapped in SOURCE.swaps().values():
        assert len(swapped) == 57 and swapped.right == test.captions
    with pytest.raises(ShapeError, match="each of 1 pictures, and 2 with 1 came"):
        Swaps(np.zeros((1, 2, 2, 3)), ["a", "b"], ["c"])


def test_sentences_are_texts_alone():
    source = Sentences(SOURCE.captions(), SOURCE.tokenizer.with_frame())
    batch = source.batch(np.arange(3), np.random.default_rng(0))
    begin, end = source.tokenizer.begin, source.tokenizer.end_of_text
    for i, (text, ids, real) in enumerate(
        zip(batch.captions, batch.ids, batch.is_real, strict=True)
    ):
        one, other = text.split(" / ")
        assert {one, other} == set(SOURCE.captions()[i])
        assert ids[real].tolist() == [
            t for part in (one, other) for t in source.tokenizer([part])[0][0]
        ]
        assert [int((ids[real] == token).sum()) for token in (begin, end)] == [2, 2] and not ids[
            ~real
        ].any()
    with pytest.raises(DataError, match="at least 2 pictures' captions, and 1 different ones came"):
        Sentences([("a",), ("a",)], SOURCE.tokenizer)
