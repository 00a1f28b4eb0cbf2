"""Pairs as a source: honest splits, batches that follow their generator, damaged pictures named and replaced."""

import csv

import numpy as np
import pytest
from PIL import Image

from tinymm.arrays.errors import DataError, UsageError
from tinymm.data.images import Preprocess
from tinymm.data.text import WordTokenizer
from tinymm.data.your_data import pairs


def build(folder, count=20, damaged=(), columns=("file_name", "text")):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        name = f"{number:02d}.png"
        Image.fromarray(rng.integers(0, 256, (20, 16 + number, 3), dtype=np.uint8)).save(
            folder / name
        )
        if number in damaged:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: len(content) // 2])
        rows += [[name, f"picture {number}"], [name, f"number {number} again"]]
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


@pytest.fixture
def source(tmp_path):
    return pairs.load(build(tmp_path), resolution=8)


def test_the_split_is_by_picture_and_depends_on_the_seed_alone(source, tmp_path):
    names = {name: [entry.name for entry in entries] for name, entries in source.splits.items()}
    assert (
        len(source) == 18
        and len(names["validation"]) == 2
        and not set(names["train"]) & set(names["validation"])
    )
    again, other = (pairs.load(tmp_path, resolution=8, seed=seed) for seed in (0, 1))
    assert (
        [entry.name for entry in again.training]
        == names["train"]
        != [entry.name for entry in other.training]
    )
    validation = source.validation()
    assert len(validation) == 2 and validation.image_of_caption.tolist() == [0, 0, 1, 1]
    trained = {caption for entry in source.training for caption in entry.captions}
    assert not trained & set(validation.captions)
    assert source.tests() == {} == source.zero_shot()


def test_the_data_s_own_split_is_kept(tmp_path):
    build(tmp_path, 8)
    (tmp_path / "captions.csv").write_text(
        "image,text,split\n"
        + "".join(
            f"{i:02d}.png,t {i},{['train', 'val', 'test', 'train'][i % 4]}\n" for i in range(8)
        )
    )
    source = pairs.load(tmp_path, resolution=8)
    assert [entry.name for entry in source.training] == ["00.png", "03.png", "04.png", "07.png"]
    assert source.validation().captions == ["t 1", "t 5"] and source.tests()["test"].captions == [
        "t 2",
        "t 6",
    ]


def test_a_batch_is_a_function_of_indices_and_generator(source, tmp_path):
    indices = np.array([3, 0, 7, 11])
    one, two = (
        part.batch(indices, np.random.default_rng(1))
        for part in (source, pairs.load(tmp_path, resolution=8))
    )
    np.testing.assert_array_equal(one.images, two.images)
    assert one.captions == two.captions and one.image_ids.tolist() == indices.tolist()
    assert one.images.shape == (4, 8, 8, 3) and one.images.dtype == np.float32
    assert all(
        caption in source.training[i].captions
        for caption, i in zip(one.captions, indices, strict=True)
    )
    drawn = {source.batch(indices, np.random.default_rng(seed)).captions for seed in range(10)}
    assert len(drawn) > 3
    assert not np.array_equal(one.images, source.batch(indices, np.random.default_rng(2)).images)


def test_without_augmentation_pictures_are_the_preprocessing_s(tmp_path):
    source = pairs.load(build(tmp_path), resolution=8, smallest_crop=None)
    images = source.batch(np.arange(4), np.random.default_rng(0)).images
    for image, entry in zip(images, source.training, strict=False):
        np.testing.assert_array_equal(image, source.preprocess(entry.source()))


def test_flipping_is_off_unless_asked_for(tmp_path):
    build(tmp_path)
    plain, flipped = (
        pairs.load(tmp_path, resolution=8, smallest_crop=None, flip=flip) for flip in (False, True)
    )
    ours, theirs = (
        part.batch(np.arange(16), np.random.default_rng(0)).images for part in (plain, flipped)
    )
    mirrored = [
        not np.array_equal(one, two) and np.array_equal(one[:, ::-1], two)
        for one, two in zip(ours, theirs, strict=True)
    ]
    assert 0 < sum(mirrored) < 16


@pytest.mark.parametrize("cache_bytes", [0, 3000, 2**30])
def test_the_cache_changes_no_pixel_and_keeps_its_budget(tmp_path, cache_bytes):
    build(tmp_path)
    small, large = (
        pairs.load(tmp_path, resolution=8, cache_bytes=size) for size in (cache_bytes, 2**30)
    )
    for _ in range(2):
        images = [
            part.batch(np.arange(18), np.random.default_rng(0)).images for part in (small, large)
        ]
        np.testing.assert_array_equal(*images)
    assert sum(picture.nbytes for picture in small._cache.values()) <= cache_bytes


def test_gray_pictures_and_fine_tuning_s_own_tokenizer(tmp_path):
    tokenizer = WordTokenizer(("picture", "number"), 9)

    def padded(texts):
        ids, is_real = tokenizer(texts)
        return tuple(np.pad(array, ((0, 0), (0, 77 - array.shape[1]))) for array in (ids, is_real))

    source = pairs.load(
        build(tmp_path), tokenizer=padded, preprocess=Preprocess(8, 1, (0.2,), (0.4,), "square")
    )
    batch = source.batch(np.arange(5), np.random.default_rng(0))
    assert (
        batch.images.shape == (5, 8, 8, 1)
        and batch.ids.shape[1] == batch.is_real.sum(axis=1).max() <= 5
    )
    assert source.tokenizer is padded


def test_damaged_pictures_are_named_and_replaced_the_same_way_every_time(tmp_path):
    build(tmp_path, damaged=(2, 3, 4))
    (tmp_path / "07.png").write_bytes(b"")
    one, two = (pairs.load(tmp_path, resolution=8) for _ in range(2))
    assert [name for name, _ in one.skipped] == ["07.png"]
    indices = np.arange(len(one) - 4)
    two.batch(
        np.arange(len(two) - 4)[::-1], np.random.default_rng(3)
    )  # another history, the same result
    batches = [part.batch(indices, np.random.default_rng(0)) for part in (one, two)]
    np.testing.assert_array_equal(batches[0].images, batches[1].images)
    assert len(set(batches[0].image_ids.tolist())) == len(indices)
    named = {name for name, reason in one.skipped if "damaged or cut off" in reason}
    assert named and named <= {"02.png", "03.png", "04.png"}
    used = {one.training[i].name for i in batches[0].image_ids}
    assert not used & {"02.png", "03.png", "04.png", "07.png"}
    with pytest.raises(
        DataError,
        match=rf"of {len(one)} training pictures are damaged: too few for a batch of {len(one)}",
    ):
        one.batch(np.arange(len(one)), np.random.default_rng(0))


# ---------------------------------------------------------------------- what CapFilt reads and writes
def test_pictures_by_number_are_those_that_a_test_sees(source):
    found = source.images(np.array([3, 0, 3]))
    np.testing.assert_array_equal(
        found, [source.preprocess(source.training[i].source()) for i in (3, 0, 3)]
    )
    assert source.texts == source.captions() and source.texts[3] == tuple(
        source.training[3].captions
    )


def test_pictures_that_cannot_be_read_have_no_number(tmp_path):
    source = pairs.load(build(tmp_path, damaged=(2, 3, 4)), resolution=8)
    broken = [
        i for i, entry in enumerate(source.training) if entry.name in ("02.png", "03.png", "04.png")
    ]
    assert broken and source.web_pictures().tolist() == [
        i for i in range(len(source)) if i not in broken
    ]
    assert source.web_pictures().dtype == np.int64
    assert {source.training[i].name for i in broken} <= dict(source.skipped).keys()


def test_other_captions_keep_the_pictures_the_words_and_the_tests(source):
    before, words = [list(entry.captions) for entry in source.training], source.tokenizer
    texts = [(f"picture {i}", "picture") if i % 3 else () for i in range(len(source))]
    other = source.with_captions(texts)
    kept = [i for i in range(len(source)) if i % 3]
    assert other.texts == [texts[i] for i in kept] and len(other) == len(kept)
    assert [entry.name for entry in other.training] == [source.training[i].name for i in kept]
    assert other.tokenizer is words and other.splits["train"] is other.training
    validations = [part.validation() for part in (source, other)]
    np.testing.assert_array_equal(validations[0].images, validations[1].images)
    assert validations[0].captions == validations[1].captions
    for part, numbers in (
        (source, kept),
        (other, range(len(kept))),
    ):  # decoded before, and decoded now: the same pictures
        part.smallest_crop = None
        batch = part.batch(np.array(numbers), np.random.default_rng(0))
        np.testing.assert_array_equal(batch.images, source.images(np.array(kept)))
        assert all(text in part.texts[i] for text, i in zip(batch.captions, numbers, strict=True))
    assert [list(entry.captions) for entry in source.training] == before, (
        "the source itself has not changed"
    )


def test_filtering_leaves_at_least_two_pictures(source):
    texts = [("a",)] + [()] * (len(source) - 1)
    with pytest.raises(
        DataError,
        match="training needs 2 pictures with captions, and 1 of 18 have one left; filter less",
    ):
        source.with_captions(texts)
    with pytest.raises(ValueError, match="zip"):
        source.with_captions(texts[1:])


def test_words_seen_once_stay_in_small_vocabularies_and_go_in_large_ones():
    assert "rare" in pairs.vocabulary_of(["a rare cat", "a cat"]).vocabulary
    many = [f"word{i} word{i}" for i in range(2001)]
    assert "rare" not in pairs.vocabulary_of([*many, "rare"]).vocabulary
    assert pairs.vocabulary_of(["word " * 200]).context == 77


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"validation_share": 0}, UsageError, "at most 0.5, but came as 0: try 0.1"),
        ({"smallest_crop": 1.5}, UsageError, "at most 1, but came as 1.5: try 0.9"),
        (
            {"caption_column": "label"},
            DataError,
            r"line 1 has file_name, text, but captions need .* \(label\)",
        ),
    ],
)
def test_impossible_settings_are_refused(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        pairs.load(build(tmp_path), **arguments)


def test_three_pictures_are_too_few(tmp_path):
    with pytest.raises(DataError, match="need 2 pictures each but 3 can be read"):
        pairs.load(build(tmp_path, 3))


def test_a_caption_of_several_pictures_is_shown_as_it_was_written(tmp_path):
    build(tmp_path, 6)
    with (tmp_path / "captions.csv").open("a", encoding="utf-8") as file:
        file.write("00.png,红色的圆\n01.png,红色的圆\n02.png,A Cat\n03.png,a  cat\n")
    assert pairs.check(tmp_path).duplicate_captions == [("红色的圆", 2), ("A Cat", 2)]


def test_the_report_counts_and_names(tmp_path):
    build(tmp_path, 6, damaged=(1,))
    with (tmp_path / "captions.csv").open("a") as file:
        file.write(
            "gone.png,nothing\ncopy.png,picture 0\n00.png,a caption that is the longest of them all by far\n"
        )
    (tmp_path / "copy.png").write_bytes((tmp_path / "00.png").read_bytes())
    report = pairs.check(tmp_path, tokenizer=WordTokenizer(("picture", "number", "again"), 9))
    assert (report.pictures, report.captions) == (6, 12) and report.longest[0] == 11
    assert report.duplicate_captions == [("picture 0", 2)] and report.identical_pictures == [
        ["00.png", "copy.png"]
    ]
    assert [name for name, _ in report.skipped] == ["gone.png", "01.png"]
    assert (
        report.unknown is not None
        and report.unknown["0"] == 3
        and "caption" in report.words_seen_once
    )
    text = "\n".join(report.lines())
    for part in ("6 pictures, 12 captions (2.0 a picture)", "of 00.png: a caption that", "  picture 0 (2)", "00.png = copy.png",
                 "skipped: 2", "01.png: ", "damaged or cut off", "table separated by ','"):  # fmt: skip
        assert part in text, part
    assert "and 1 more" in "\n".join(report.lines(at_most=1))
