"""What went in is what was used and what was named: strays, odd names, commas, line ends, and bad files beside good ones."""

import json
import os
import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_caption_formats import coco, draw, picture_bytes, shard, table, write_json, write_lines

from tinymm.arrays.errors import DataError
from tinymm.data.your_data import pairs, texts
from tinymm.data.your_data.columns import MAX_CAPTION, Remarks
from tinymm.data.your_data.listing import find, is_there
from tinymm.data.your_data.names import clean, printable


def said(listing):
    return "\n".join(
        [*listing.remarks.lines(), *(f"{name}: {reason}" for name, reason in listing.skipped)]
    )


# ---------------------------------------------------------------------- tables
COMMAS = st.lists(
    st.text("ab ", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=2, max_size=4
)


@pytest.mark.parametrize("separator", [",", ";"])
@given(parts=COMMAS, place=st.integers(0, 2))
def test_a_comma_without_quotation_marks_cuts_nothing(tmp_path_factory, separator, parts, place):
    folder = tmp_path_factory.mktemp("commas")
    draw(folder / "a.png")
    text = f"{separator} ".join(parts)
    columns = {"image": "a.png", "width": "3"}
    order = list(columns)
    order.insert(place, "caption")
    row = columns | {"caption": text}
    (folder / "captions.csv").write_text(
        f"{separator.join(order)}\n{separator.join(row[name] for name in order)}\n"
    )
    listing = find(folder)
    assert listing.entries[0].captions == [text] and "captions.csv: 1 line with" in said(listing)


@pytest.mark.parametrize(
    "text",
    [
        "image,caption\na.png,red,train\n", "image,caption\na.png,red,blue\n", "caption,image\nred,blue,a.png\n",
        "image\tcaption\na.png\tred\t blue\n", 'image,caption\na.png,"red", blue\n', "image,caption,split\na.png,red, blue, green,x,train\n",
        "image;caption\na.png;red;blue\n",
        # a separator at the end is not forgiven: the caption may have had one that moved its rest into the next column
        "image,caption,note\na.png,red,blue,\n", "image\tcaption\tnote\na.png\tred\t blue\t\n",
    ],
)  # fmt: skip
def test_a_field_too_many_is_an_error_with_its_line(tmp_path, text):
    draw(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(DataError, match="captions.csv line 2 has more fields than the . columns"):
        find(tmp_path)


def test_a_last_column_that_is_empty_hides_no_separator_of_a_caption(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image;caption;note\na.png;red; blue;\n")
    assert find(tmp_path).entries[0].captions == ["red; blue"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_an_encoding_whose_bytes_are_utf_8_by_chance_is_named(tmp_path, encoding):
    for number in range(3):
        draw(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_bytes("red".encode("utf-8" if number else encoding))
    listing = find(tmp_path)
    assert len(listing.entries) == 2 and "which is zero: save it as UTF-8" in said(listing)


def test_a_caption_file_takes_memory_by_its_size(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,caption\na.png,red\n")
    tracemalloc.start()
    find(tmp_path / "captions.csv")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_columns_and_keys_that_are_not_used_are_named_once(tmp_path):
    draw(tmp_path / "a.png")
    table(
        tmp_path / "captions.csv",
        ["", "image", "text", "title", "url", "empty"],
        [["0", "a.png", "t", "other", "http", ""]] * 3,
        ",",
    )
    assert "captions.csv: 3 columns not used (without a name, title, url)" in said(find(tmp_path))
    (tmp_path / "captions.csv").unlink()
    content = coco({"a.png": ["t"]}) | {"info": {}}
    content["images"][0]["license"] = content["annotations"][0]["bbox"] = 1
    write_json("captions.json", content)(tmp_path)
    assert "captions.json: 3 keys not used (info, images.license, annotations.bbox)" in said(
        find(tmp_path)
    )
    write_json("captions.json", [{"image": "a.png", "caption": "t", "image_id": 3}])(tmp_path)
    assert "captions.json: 1 key not used (image_id)" in said(find(tmp_path))


def test_a_column_or_key_that_stands_there_twice_is_refused(tmp_path):
    draw(tmp_path / "a.png")
    table(tmp_path / "captions.csv", ["image", "caption", "caption"], [["a.png", "t", "u"]], ",")
    with pytest.raises(DataError, match="has the column 'caption' twice"):
        find(tmp_path)
    (tmp_path / "captions.csv").unlink()
    write_lines("captions.jsonl", ['{"image": "a.png", "caption": "t", "caption": "u"}'])(tmp_path)
    with pytest.raises(DataError, match="line 1 has the key 'caption' twice"):
        find(tmp_path)


def test_headers_are_read_in_any_case(tmp_path):
    draw(tmp_path / "a.png")
    table(tmp_path / "Captions.CSV", ["File Name", "CAPTION"], [["a.png", "t"]], ",")
    assert find(tmp_path).entries[0].captions == ["t"]


def test_numbered_captions_keep_their_order(tmp_path):
    draw(tmp_path / "a.png")
    table(
        tmp_path / "captions.csv",
        ["image", *(f"caption_{i}" for i in range(12))],
        [["a.png", *map(str, range(12))]],
        ",",
    )
    assert find(tmp_path).entries[0].captions == [str(i) for i in range(12)]


def test_captions_that_are_none_are_named_and_the_others_kept(tmp_path):
    draw(tmp_path / "a.png")
    texts = ["good", 3, None, {"a": 1}, "\ud800", "x" * (MAX_CAPTION + 1)]
    write_lines(
        "captions.jsonl", [json.dumps({"image": "a.png", "caption": texts}), '{"note": 1}']
    )(tmp_path)
    listing = find(tmp_path)
    assert listing.entries[0].captions == ["good"]
    for part in (
        "3 is none",
        "{'a': 1} is none",
        r"half a character: '\ud800'",
        "of 65,537 characters",
        "captions.jsonl line 2",
        "has note",
    ):
        assert part in said(listing), part
    said(listing).encode()


def test_coco_s_ids_of_two_kinds_are_named(tmp_path):
    for name in "ab":
        draw(tmp_path / f"{name}.png")
    content = coco({"a.png": ["t"], "b.png": ["u"]}, start=1)
    content["annotations"][0]["image_id"] = "1"
    write_json("captions.json", content)(tmp_path)
    listing = find(tmp_path)
    assert [entry.name for entry in listing.entries] == ["b.png"]
    assert "no annotation has the image_id 1" in said(
        listing
    ) and "no image has the id '1', which 1 annotations name" in said(listing)
    content["images"][1]["id"] = 1
    write_json("captions.json", content)(tmp_path)
    with pytest.raises(DataError, match="gives the id 1 to 'a.png' and 'b.png'"):
        find(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images":' * 50_000, "[1e999999]", "nul"])
def test_json_of_any_depth_ends_in_a_sentence(tmp_path, text):
    (tmp_path / "captions.json").write_text(text)
    with pytest.raises(DataError, match=r"captions.json (is not JSON|entry 0 has float)"):
        find(tmp_path / "captions.json")


def test_very_many_columns_are_refused(tmp_path):
    (tmp_path / "captions.csv").write_text(
        "image,caption," + ",".join(f"c{i}" for i in range(20_000)) + "\n"
    )
    with pytest.raises(DataError, match="captions.csv line 1 has image, caption, c0"):
        find(tmp_path)


# ---------------------------------------------------------------------- lines and names
ODD = "one\u2028two\u2029three\x0bfour\x0cfive\x1csix\x85seven"


def test_a_line_ends_where_the_format_says(tmp_path):
    draw(tmp_path / "a.png")
    shard(tmp_path / "s.tar", [("a.png", picture_bytes()), ("a.txt", f"{ODD}\r\nsecond\n")])
    assert find(tmp_path / "s.tar").entries[0].captions == [ODD, "second"]
    for name, text in (
        ("captions.csv", f"image,caption\na.png,{ODD}\n"), ("captions.jsonl", json.dumps({"image": "a.png", "text": ODD}, ensure_ascii=False)),
        ("captions.token", f"a.png#0\t{ODD}\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert find(tmp_path / name).entries[0].captions == [ODD]
    (tmp_path / "a.txt").write_bytes(f"{ODD}\r\nsecond\rthird".encode())
    for file in ("s.tar", "captions.csv", "captions.jsonl", "captions.token"):
        (tmp_path / file).unlink()
    assert find(tmp_path).entries[0].captions == [ODD, "second", "third"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "written",
    [
        "caf\u00e9.png",
        "./caf\u00e9.png",
        "sub\\caf\u00e9.png",
        "sub/caf\u00e9.png",
        "C:\\data\\sub\\caf\u00e9.png",
    ],
)
def test_names_are_compared_in_one_form(tmp_path, form, written):
    draw(
        tmp_path / "sub" / unicodedata.normalize("NFD" if form == "NFC" else "NFC", "caf\u00e9.png")
    )
    table(
        tmp_path / "captions.csv",
        ["image", "text"],
        [[unicodedata.normalize(form, written), "t"]],
        ",",
    )
    assert find(tmp_path).entries[0].captions == ["t"]


def test_quotation_marks_of_word_processors_in_names(tmp_path):
    draw(tmp_path / "it\u2019s \u2013 a cat.png")
    table(tmp_path / "captions.csv", ["image", "text"], [["it's - a cat.png", "t"]], ",")
    assert find(tmp_path).entries[0].captions == ["t"]


def test_a_name_that_fits_two_pictures_fits_none_and_says_which(tmp_path):
    for place in ("a", "b"):
        draw(tmp_path / place / "x.png")
    draw(tmp_path / "y.png")
    table(tmp_path / "captions.csv", ["image", "text"], [["x.png", "t"], ["y.png", "t"]], ",")
    assert "x.png: 2 pictures of that name below" in said(
        find(tmp_path)
    ) and "a/x.png, b/x.png" in said(find(tmp_path))


@given(st.text(max_size=12))
def test_any_name_can_be_printed_and_is_stable(name):
    printable(name).encode()
    assert printable(name).isprintable() and clean(clean(name)) == clean(name)


# ---------------------------------------------------------------------- one bad file beside good ones
def beside(folder, count=5):
    for i in range(count):
        draw(folder / f"{i}.png", i)
        (folder / f"{i}.txt").write_text(f"thing {i}")


def test_one_bad_side_file_is_skipped_and_named(tmp_path):
    beside(tmp_path, 6)
    (tmp_path / "0.txt").write_bytes("un caf\u00e9".encode("latin-1"))
    (tmp_path / "1.txt").unlink()
    (tmp_path / "1.txt").mkdir()
    (tmp_path / "2.txt").write_bytes(b"x" * (2**20 + 1))
    (tmp_path / "3.txt").write_text("x" * (MAX_CAPTION + 1))
    draw(tmp_path / "4.jpg")
    listing = find(tmp_path)
    assert [entry.name for entry in listing.entries] == ["5.png"]
    assert {name for name, _ in listing.skipped} == {
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "4.jpg",
    }
    for part in (
        "is not, from byte",
        "Is a directory",
        "more than 1,048,576 bytes",
        "65,537 characters",
        "2 pictures and 1 texts are called 4",
    ):
        assert part in said(listing), part


def test_capital_suffixes_are_suffixes(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.PNG").write_bytes(picture_bytes(i))
        (tmp_path / f"{i}.TXT").write_text(f"thing {i}")
    assert [entry.captions for entry in find(tmp_path).entries] == [
        [f"thing {i}"] for i in range(3)
    ]
    (tmp_path / "0.txt").write_text("whose?")
    assert "1 pictures and 2 texts are called 0" in said(find(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_side_file_is_named(tmp_path):
    beside(tmp_path)
    (tmp_path / "0.txt").chmod(0)
    assert "0.txt can't be read" in said(find(tmp_path))


def test_hidden_files_are_passed_over_and_counted(tmp_path):
    beside(tmp_path)
    before = find(tmp_path)
    for i in range(5):
        for end in (".png", ".txt"):
            (tmp_path / f"._{i}{end}").write_bytes(bytes.fromhex("00051607000200004d6163"))
    (tmp_path / "._captions.csv").write_bytes(b"\xff")
    draw(tmp_path / ".cache" / "x.png")
    (tmp_path / ".cache" / "x.txt").write_text("hidden")
    listing = find(tmp_path)
    assert (
        listing.entries == before.entries
        and not listing.skipped
        and "13 hidden files not used" in said(listing)
    )
    assert len(pairs.load(tmp_path, resolution=8)) == 3


def test_a_stray_table_decides_nothing(tmp_path):
    beside(tmp_path)
    (tmp_path / "metadata.csv").write_text("license,author\nMIT,me\n")
    (tmp_path / "links.csv").write_bytes("n\u00e4me".encode("latin-1"))
    listing = find(tmp_path)
    assert listing.layout == "a .txt beside each picture" and len(listing.entries) == 5
    assert "metadata.csv line 1 has license, author" in said(listing) and "links.csv" in said(
        listing
    )


@given(
    st.sets(
        st.sampled_from(
            [
                "b.png",
                "sub/c.png",
                "notes.md",
                "list.csv",
                "d.txt",
                "old.tar",
                "e.jpg.bak",
                ".x",
                "sub/.y",
            ]
        )
    )
)
def test_every_file_of_a_folder_is_used_or_named(tmp_path_factory, strays):
    folder = tmp_path_factory.mktemp("strays")
    draw(folder / "a.png")
    table(folder / "captions.csv", ["image", "text"], [["a.png", "t"]], ",")
    for name in strays:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"stray")
    listing = find(folder)
    named = {item for items in listing.remarks.found.values() for item in items}
    assert named == strays and [entry.name for entry in listing.entries] == ["a.png"]


# ---------------------------------------------------------------------- shards
def test_all_that_a_shard_holds_is_used_or_named(tmp_path):
    members = [
        ("1.png", picture_bytes(1)), ("1.txt", "one"), ("2.png", picture_bytes(2)), ("2.jpg", picture_bytes(2)), ("2.txt", "two"),
        ("3.png", picture_bytes(3)), ("4.txt", "four"), ("5.png", picture_bytes(5)), ("5.txt", "a"), ("5.png", picture_bytes(6)), ("5.txt", "b"),
        ("6.cls", "1"), ("7.png", picture_bytes(7)), ("7.txt", b"\xff"), ("._8.png", b"?"), ("9.txt", "nine"), ("10.png", picture_bytes(9)),
        ("9.png", picture_bytes(10)), ("10.txt", "ten"), ("10.json", '{"caption": "other", "url": "u"}'), ("11.json", "[1]"), ("12.left.png", b"?"),
    ]  # fmt: skip
    listing = find(shard(tmp_path / "s.tar", members))
    assert {entry.name: (entry.captions, entry.source()) for entry in listing.entries} == {
        "s.tar:1": (["one"], picture_bytes(1)), "s.tar:9": (["nine"], picture_bytes(10)), "s.tar:10": (["ten"], picture_bytes(9)),
    }  # fmt: skip
    text = said(listing)
    for part in (
        "s.tar:2: more than one picture of this key", "s.tar:3: no caption", "s.tar:4: no picture", "s.tar:5: more than one picture", "1 .cls file",
        "s.tar:7.txt: Caption files are UTF-8", "1 hidden file", "caption differing from the .txt, which is used, (s.tar:10)", "1 key not used (url)",
        "s.tar:11.json: a .json beside a picture is one", "1 .left.png file",
    ):  # fmt: skip
        assert part in text, part


def test_shards_of_one_name_in_two_folders_stay_apart(tmp_path):
    for part in (0, 1):
        (tmp_path / f"p{part}").mkdir()
        shard(
            tmp_path / f"p{part}" / "s.tar",
            [("1.png", picture_bytes(part)), ("1.txt", f"t {part}")],
        )
    assert is_there(tmp_path / "p{0..1}" / "s.tar") and not is_there(tmp_path / "q{0..}")
    assert [entry.name for entry in find(tmp_path / "p{0..1}" / "s.tar").entries] == [
        "p0/s.tar:1",
        "p1/s.tar:1",
    ]


@pytest.mark.parametrize("wanted", ["{9..0}", "{0..999999999999}", "{0..999}{0..999}"])
def test_ranges_that_count_down_or_without_end_are_refused(tmp_path, wanted):
    with pytest.raises(DataError, match="count up, to at most 100,000 shards"):
        find(tmp_path / f"s-{wanted}.tar")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "3"]),
            st.sampled_from([".png", ".jpg", ".txt", ".json", ".cls"]),
        ),
        max_size=12,
    )
)
def test_no_two_samples_are_ever_mixed(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("mixed")
    content = {".txt": "t", ".json": '{"caption": "j"}', ".cls": "1"}
    shard(
        folder / "s.tar",
        [
            (key + kind, content.get(kind) or picture_bytes(place))
            for place, (key, kind) in enumerate(members)
        ],
    )
    good = set()
    for key in {key for key, _ in members}:
        kinds = [kind for other, kind in members if other == key]
        count = {
            name: sum(kind in some for kind in kinds)
            for name, some in (("p", (".png", ".jpg")), ("t", (".txt",)), ("j", (".json",)))
        }
        if count["p"] == 1 and max(count.values()) == 1 and count["t"] + count["j"]:
            good.add(f"s.tar:{key}")
    try:
        listing = find(folder / "s.tar")
    except DataError:
        assert not good
        return
    assert {entry.name for entry in listing.entries} == good


def test_the_readers_name_the_first_wrong_byte_and_stop_at_a_size(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="more than 10 bytes"):
        texts.read_lines(tmp_path / "a.csv", 10)
    with pytest.raises(DataError, match="can't be read"):
        texts.read_lines(tmp_path, 10)
    assert Remarks().lines() == []
