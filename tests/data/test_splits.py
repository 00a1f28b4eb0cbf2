"""Who is trained on: the data's own words in any spelling, an error for any other word, and a draw that nothing else moves."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_caption_formats import coco as coco_file
from test_caption_formats import draw, picture_bytes, shard, table, write_json, write_lines

from tinymm.arrays.errors import DataError
from tinymm.data.your_data import pairs, splits
from tinymm.data.your_data.listing import Entry, find

words = st.sampled_from(
    [(split, word) for split, some in splits.WORDS.items() for word in some.split()]
)


def spoilt(word, upper, separator, year):
    word = (
        "".join(letter.upper() if up else letter for letter, up in zip(word, upper, strict=False))
        + word[len(upper) :]
    )
    return (
        f" {word[:4]}{separator}{word[4:]}{year}"
        if word.startswith(("held", "hold"))
        else f"{word}{year} "
    )


@given(
    words,
    st.lists(st.booleans(), max_size=12),
    st.sampled_from(["", "-", "_", " "]),
    st.sampled_from(["", "2017", "_2"]),
)
def test_a_word_is_known_in_any_case_with_a_year_and_with_dashes(pair, upper, separator, year):
    split, word = pair
    assert splits.of_word(spoilt(word, upper, separator, year), "line 1") == split


@given(st.text(min_size=1, max_size=8) | st.integers() | st.booleans())
def test_any_other_word_is_an_error_that_names_it_and_its_place(word):
    assume(not splits.is_word(word) and str(word).strip())
    with pytest.raises(DataError, match="captions.csv line 7 says"):
        splits.of_word(word, "captions.csv line 7")


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train", "train"), ("TEST", "test"), ("val2017", "validation"), ("test_images", "test"), ("held-out", "test"), ("dev set", "validation"),
     ("contest", ""), ("train_station", ""), ("latest", ""), ("trainval", ""), ("images", ""), ("2017", "")],
)  # fmt: skip
def test_folders_are_named_after_a_split_as_a_whole(name, split):
    assert splits.of_folder(name) == split


def test_a_name_of_two_splits_is_refused():
    assert (
        splits.of_file("coco_karpathy_train") == "train"
        and splits.of_file("results_20130124") == ""
    )
    for call in (
        lambda: splits.of_file("train_and_val"),
        lambda: splits.of_path(["train", "test"], "train/test/a.png"),
    ):
        with pytest.raises(DataError, match="belongs to one split, but the .* tell"):
            call()


# ---------------------------------------------------------------------- the draw
names = st.sets(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    min_size=4,
    max_size=60,
)


@given(names, st.sampled_from([0.05, 0.1, 0.3, 0.5]), st.integers(0, 3), st.data())
def test_a_picture_that_comes_or_goes_moves_no_other(every, share, seed, data):
    some = data.draw(st.sets(st.sampled_from(sorted(every)), min_size=4))
    whole, part = (
        splits.drawn([(name, name) for name in sorted(set_)], share, seed) for set_ in (every, some)
    )
    for train, validation, by_name in (whole, part):
        assert min(len(train), len(validation)) >= 2
        below = sum(splits.share_of(name, seed) < share for name in [*train, *validation])
        assert by_name == (2 <= below <= len(train) + len(validation) - 2)
        if by_name:
            assert all(
                (splits.share_of(name, seed) < share) is (name in validation)
                for name in [*train, *validation]
            )
    if whole[2] and part[2]:
        assert set(part[1]) == set(whole[1]) & some


def test_the_share_is_that_asked_for_and_the_seed_decides():
    many = [(f"{i:05}.jpg", i) for i in range(20_000)]
    kept = [set(splits.drawn(many, 0.1, seed)[1]) for seed in (0, 0, 1)]
    assert kept[0] == kept[1] and abs(len(kept[0]) - 2000) < 150
    assert abs(len(kept[0] & kept[2]) - 200) < 60, "another seed is another draw"


def test_the_spelling_of_an_accent_moves_nothing_and_pictures_of_one_name_stay_together():
    assert splits.share_of("cafe\u0301.png", 0) == splits.share_of("caf\u00e9.png", 0)
    entries = [
        Entry(f"{shard}:{key}", None, ["t"], key=key) for key in "abcdefgh" for shard in (0, 1)
    ]
    found, _ = splits.sides(entries, 0.1, 0)
    assert not {entry.key for entry in found["train"]} & {
        entry.key for entry in found["validation"]
    }


def test_few_pictures_get_a_validation_set_and_a_sentence():
    entries = [Entry(name, None, ["t"], key=name) for name in ("a", "b", "c", "d")]
    found, told = splits.sides(entries, 0.1, 0)
    assert (
        len(found["train"]) == len(found["validation"]) == 2
        and "2 of 4 pictures are kept back" in told[0]
    )
    with pytest.raises(DataError, match="need 2 pictures each but 3"):
        splits.sides(entries[:3], 0.1, 0)
    with pytest.raises(DataError, match="need 2 pictures each"):
        splits.sides([Entry(str(i), None, ["t"], key="one") for i in range(9)], 0.1, 0)


def test_pictures_added_and_unreadable_ones_move_nothing(tmp_path):
    def load(count, damaged=()):
        for i in range(count):
            draw(tmp_path / f"{i:03}.png", i % 200)
        for i in damaged:
            (tmp_path / f"{i:03}.png").write_bytes(b"no picture")
        table(
            tmp_path / "captions.csv",
            ["image", "caption"],
            [[f"{i:03}.png", f"thing {i}"] for i in range(count)],
            ",",
        )
        return {
            name: {entry.name for entry in some}
            for name, some in pairs.load(tmp_path, resolution=8).splits.items()
        }

    before, grown = load(60), load(70)
    broken = load(60, damaged=(1, 2, 3))
    assert len(before["validation"]) > 2, "the names alone decide here"
    assert before["validation"] <= grown["validation"] and before["train"] <= grown["train"]
    assert broken["validation"] <= before["validation"] and broken["train"] <= before["train"]


# ---------------------------------------------------------------------- what the data says
def rows(folder, column, values):
    for i in range(len(values)):
        draw(folder / f"{i}.png", i)
    return table(
        folder / "captions.csv",
        ["image", "caption", column],
        [[f"{i}.png", f"t {i}", value] for i, value in enumerate(values)],
        ",",
    )


def test_a_split_column_is_used_whatever_its_case_and_an_empty_cell_is_named(tmp_path):
    rows(tmp_path, "Split", ["Train", "VAL", "held-out", "", "train"])
    listing = find(tmp_path)
    assert [entry.split for entry in listing.entries] == ["train", "validation", "test", "train"]
    assert listing.skipped == [("3.png", "nothing says its split, and of others it is said")]


@pytest.mark.parametrize("word", ["foo", "0", "trainval", "fold1"])
def test_an_unknown_word_in_a_table_is_named_with_its_line(tmp_path, word):
    rows(tmp_path, "split", ["train", "test", word])
    with pytest.raises(DataError, match=f"captions.csv line 4 says '{word}'"):
        find(tmp_path)


@pytest.mark.parametrize("value", [True, 2, {"a": 1}, ["train"], "unseen"])
def test_an_unknown_word_in_json_is_named_with_its_record(tmp_path, value):
    images = [{"filename": "a.png", "sentences": [{"raw": "t"}], "split": value}]
    for content in ({"images": images}, [{"image": "a.png", "caption": "t", "split": value}]):
        draw(tmp_path / "a.png")
        write_json("captions.json", content)(tmp_path)
        with pytest.raises(DataError, match=r"captions.json (image|entry) 0 says"):
            find(tmp_path)


def test_a_column_subset_counts_if_all_its_values_are_words_for_splits(tmp_path):
    rows(tmp_path, "subset", ["train", "test", "train", "val"])
    assert [entry.split for entry in find(tmp_path).entries] == [
        "train",
        "test",
        "train",
        "validation",
    ]
    rows(tmp_path, "subset", ["train", "flowers", "train", "val"])
    listing = find(tmp_path)
    assert {entry.split for entry in listing.entries} == {""} and listing.remarks.lines()[
        0
    ] == "captions.csv: 1 column not used (subset)"


def test_a_coco_image_s_split_is_used(tmp_path):
    content = coco_file({f"{i}.png": ["t"] for i in range(4)})
    for i, image in enumerate(content["images"]):
        draw(tmp_path / image["file_name"], i)
        image["split"] = ["train", "restval", "val", "test"][i]
    write_json("captions.json", content)(tmp_path)
    assert [entry.split for entry in find(tmp_path).entries] == [
        "train",
        "train",
        "validation",
        "test",
    ]


def test_one_picture_on_two_sides_is_refused_with_both_lines(tmp_path):
    draw(tmp_path / "a.png")
    table(
        tmp_path / "captions.csv",
        ["image", "text", "split"],
        [["a.png", "t", "train"], ["a.png", "u", "test"]],
        ",",
    )
    with pytest.raises(
        DataError, match="a.png is train in captions.csv line 2 and test in captions.csv line 3"
    ):
        find(tmp_path)


@pytest.mark.parametrize("layout", ["metadata", "texts"])
def test_folders_of_splits_are_read_in_any_case_and_strays_beside_them_are_named(tmp_path, layout):
    for part in ("Train", "VAL", "Testing"):
        for i in range(3):
            draw(tmp_path / part / f"{i}.png", i)
            if layout == "texts":
                (tmp_path / part / f"{i}.txt").write_text(f"{part} {i}")
        if layout == "metadata":
            table(
                tmp_path / part / "metadata.csv",
                ["file_name", "text"],
                [[f"{i}.png", f"{part} {i}"] for i in range(3)],
                ",",
            )
    draw(tmp_path / "stray.png")
    (tmp_path / "stray.txt").write_text("a stray")
    (tmp_path / "classes.csv").write_text("id,name\n1,cat\n")
    shard(tmp_path / "backup.tar", [("1.png", picture_bytes()), ("1.txt", "x")])
    listing = find(tmp_path)
    assert {entry.name: entry.split for entry in listing.entries} == {
        f"{part}/{i}.png": split
        for part, split in (("Train", "train"), ("VAL", "validation"), ("Testing", "test"))
        for i in range(3)
    }
    said = "\n".join(listing.remarks.lines()) + str(listing.skipped)
    assert all(name in said for name in ("stray.png", "stray.txt", "classes.csv", "backup.tar"))
    draw(tmp_path / "more" / "x.png")
    (tmp_path / "more" / "x.txt").write_text("whose?")
    with pytest.raises(DataError, match="more names no split|more/x.png stands in none"):
        find(tmp_path)


def test_deep_folders_count_too(tmp_path):
    for part in ("images/train", "images/val"):
        draw(tmp_path / part / "a.png")
        (tmp_path / part / "a.txt").write_text("t")
    assert {entry.name: entry.split for entry in find(tmp_path).entries} == {
        "images/train/a.png": "train",
        "images/val/a.png": "validation",
    }


def test_pictures_of_a_table_that_stand_in_folders_of_splits(tmp_path):
    names = ["train/a.png", "train/b.png", "test/c.png"]
    for name in names:
        draw(tmp_path / name)
    table(tmp_path / "captions.csv", ["image", "text"], [[name, "t"] for name in names], ",")
    assert [entry.split for entry in find(tmp_path).entries] == ["train", "train", "test"]
    draw(tmp_path / "other" / "d.png")
    table(
        tmp_path / "captions.csv",
        ["image", "text"],
        [[name, "t"] for name in [*names, "other/d.png"]],
        ",",
    )
    with pytest.raises(
        DataError, match="other/d.png stands in no folder of a split, and train/a.png does"
    ):
        find(tmp_path)


def test_without_a_training_split_there_is_no_training_but_an_evaluation(tmp_path):
    rows(tmp_path, "split", ["test"] * 4)
    with pytest.raises(DataError, match="all of these are test: give the folder"):
        pairs.load(tmp_path, resolution=8)
    source = pairs.load(tmp_path, resolution=8, tokenizer=pairs.vocabulary_of(["t"]))
    assert len(source) == 0 and len(source.validation()) == 0 and len(source.tests()["test"]) == 4
    assert pairs.check(tmp_path).splits == {"test": 4}


def test_a_file_given_by_itself_is_not_split_by_its_name_and_says_so(tmp_path):
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
    write_json("captions_val2017.json", coco_file({f"{i}.png": ["t"] for i in range(4)}))(tmp_path)
    alone = find(tmp_path / "captions_val2017.json")
    assert {entry.split for entry in alone.entries} == {
        ""
    } and "captions_val2017.json" in alone.remarks.lines()[-1]
    assert {entry.split for entry in find(tmp_path).entries} == {"validation"}


def test_shards_tell_their_split_by_name_or_record(tmp_path):
    for name in ("train-0", "VAL-0"):
        shard(tmp_path / f"{name}.tar", [("1.png", picture_bytes(1)), ("1.txt", name)])
    assert {entry.name: entry.split for entry in find(tmp_path).entries} == {
        "VAL-0.tar:1": "validation",
        "train-0.tar:1": "train",
    }
    shard(tmp_path / "extra.tar", [("1.png", picture_bytes(1)), ("1.txt", "t")])
    with pytest.raises(DataError, match="extra.tar names no split beside"):
        find(tmp_path)
    said = [(f"{i}.{kind}", data) for i, split in enumerate(("train", "Test")) for kind, data in (
        ("png", picture_bytes(i)), ("json", f'{{"caption": "t", "split": "{split}"}}'))]  # fmt: skip
    shard(tmp_path / "extra.tar", said)
    assert [entry.split for entry in find(tmp_path / "extra.tar").entries] == ["train", "test"]


def test_folders_in_a_shard_tell_it_too(tmp_path):
    members = [
        (f"{part}/{i}.{kind}", data)
        for part in ("train", "Val")
        for i in range(2)
        for kind, data in (("png", picture_bytes(i)), ("txt", "t"))
    ]
    shard(tmp_path / "all.tar", members)
    assert {entry.name: entry.split for entry in find(tmp_path / "all.tar").entries} == {
        "all.tar:train/0": "train", "all.tar:train/1": "train", "all.tar:Val/0": "validation", "all.tar:Val/1": "validation",
    }  # fmt: skip


def test_flickr_s_lists_leave_no_picture_to_chance(tmp_path):
    for name in "abcd":
        draw(tmp_path / f"{name}.png")
    write_lines("Flickr8k.token.txt", [f"{name}.png#0\tword" for name in "abcd"])(tmp_path)
    for part, listed in (("train", "ab"), ("test", "c")):
        write_lines(f"Flickr_8k.{part}Images.txt", [f"{name}.png" for name in listed])(tmp_path)
    listing = find(tmp_path)
    assert [entry.split for entry in listing.entries] == [
        "train",
        "train",
        "test",
    ] and listing.skipped[0][0] == "d.png"
