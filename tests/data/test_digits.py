"""Digits: a fixed split, captions that repeat on purpose, and one zero-shot task."""

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.data.builtin import digits
from tinymm.data.your_data.check import check_source

pytestmark = pytest.mark.data
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def source():
    return digits.load()


def test_the_split_is_whole_fixed_and_balanced(source):
    together = np.concatenate([source.test, source.held_back, source.trained])
    assert sorted(together) == list(range(1797)) and len(source) == 1257
    np.testing.assert_array_equal(source.test, digits.load(seed=3).test)
    assert np.bincount(source.targets[source.test]).min() >= 25


def test_pictures_are_the_eight_by_eight_ones_enlarged(source):
    from sklearn.datasets import load_digits

    means = source.pictures[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.corrcoef(means.ravel(), load_digits().images.ravel())[0, 1] > 0.99
    assert digits.load(resolution=16).validation().images.shape == (10, 16, 16, 1)


def test_captions_say_the_digit_in_every_template(source):
    batch = source.batch(np.arange(600), np.random.default_rng(0))
    known = {
        template.format(word): target
        for target, word in enumerate(digits.CLASSES)
        for template in digits.TEMPLATES
    }
    assert [known[caption] for caption in batch.captions] == source.targets[
        batch.image_ids
    ].tolist()
    assert len(set(batch.captions)) == 50 and set(batch.image_ids) <= set(source.trained)
    assert batch.images.shape == (600, 32, 32, 1) and batch.images.dtype == np.float32
    assert not source.tokenizer.unknown(batch.captions) and source.tokenizer.cut == 0


def test_batches_are_distorted_and_repeatable_and_nothing_is_mirrored(source, monkeypatch):
    one, two, other = (
        source.batch(np.arange(64), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.images, two.images)
    assert not np.array_equal(one.images, other.images)
    monkeypatch.setattr(source, "strength", 0)
    plain = source.batch(np.arange(64), np.random.default_rng(0)).images
    np.testing.assert_allclose(
        plain, source.preprocess.normalize(source.pictures[source.trained[:64]]), atol=1e-5
    )
    distances = [
        ((one.images - some) ** 2).mean(axis=(1, 2, 3)) for some in (plain, plain[:, :, ::-1])
    ]
    assert (distances[0] < distances[1]).mean() > 0.85


def test_validation_has_one_picture_of_each_digit_and_none_is_trained_on(source):
    validation = source.validation()
    assert validation.captions == [f"a photo of the digit {word}" for word in digits.CLASSES]
    trained = {
        picture.tobytes()
        for picture in source.preprocess.normalize(source.pictures[source.trained])
    }
    task = source.zero_shot()["digit"]
    assert not trained & {image.tobytes() for image in [*validation.images, *task.images]}
    assert len(task) == 360 and task.classes == digits.CLASSES and source.tests() == {}


def test_a_check_of_the_data_names_the_captions_of_many_pictures(source):
    report = check_source(source)
    assert (
        len(report.duplicate_captions) == 50
        and report.pictures == 1257
        and report.captions == 5 * 1257
    )


def test_impossible_settings_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(
        UsageError, match="enlarged to at most 128 pixels, and 4 came; change --resolution"
    ):
        digits.load(resolution=4)
    with pytest.raises(UsageError, match="from 0 on, but got -1: try 0.5"):
        digits.load(strength=-1)
    digits.enlarged.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(
        UsageError,
        match=r"scikit-learn, which is not installed; pip install -e '.\[data\]' brings it",
    ):
        digits.load()
