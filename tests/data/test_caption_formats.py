"""Every caption format, written to disk and read back; and the sentence for each way in which one can be wrong."""

import csv
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinymm.arrays.errors import DataError
from tinymm.data.your_data.captions import Options
from tinymm.data.your_data.listing import find

CAPTIONS = {
    "a.png": ["red, on the left", "a red square"],
    "b.png": ['the "blue" one'],
    "c.jpg": ["größer", "third", "last"],
}
PAIRS = [(name, caption) for name, captions in CAPTIONS.items() for caption in captions]


def draw(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (shade, 50, 50)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(CAPTIONS):
        draw(tmp_path / "images" / name, 80 * number)
    return tmp_path


def table(path, header, rows, separator):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    return path


def coco(captions, start=7):
    numbers = {name: number for number, name in enumerate(captions, start)}
    return {
        "images": [{"id": number, "file_name": name} for name, number in numbers.items()],
        "annotations": [
            {"image_id": numbers[name], "caption": text}
            for name, texts in captions.items()
            for text in texts
        ],
    }


def write_table(separator, header):
    return lambda folder, suffix="csv": table(
        folder / f"captions.{suffix}", header, PAIRS, separator
    )


def write_numbered(folder):
    width = max(map(len, CAPTIONS.values()))
    rows = [[name, *texts, *[""] * (width - len(texts))] for name, texts in CAPTIONS.items()]
    return table(
        folder / "metadata.csv", ["file_name", *(f"caption_{i}" for i in range(width))], rows, ","
    )


def write_json(name, content):
    def write(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return folder / name

    return write


def write_lines(name, lines):
    def write(folder):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder / name

    return write


TOKENS = [f"{name}#{i}\t{text}" for name, texts in CAPTIONS.items() for i, text in enumerate(texts)]
FORMATS = {
    "csv with commas": write_table(",", ["file_name", "text"]),
    "open_clip's tabs in a csv": write_table("\t", ["filepath", "title"]),
    "tsv": lambda folder: write_table("\t", ["image", "caption"])(folder, "tsv"),
    "Flickr30k's bars": write_table("|", ["image_name", " comment"]),
    "numbered captions": write_numbered,
    "jsonl": write_lines(
        "metadata.jsonl", [json.dumps({"file_name": name, "text": text}) for name, text in PAIRS]
    ),
    "jsonl with lists": write_lines(
        "captions.jsonl",
        [json.dumps({"image": name, "caption": texts}) for name, texts in CAPTIONS.items()],
    ),
    "COCO": write_json("annotations/captions_train2017.json", coco(CAPTIONS)),
    "BLIP": write_json(
        "captions.json", [{"image": name, "caption": text, "image_id": "1"} for name, text in PAIRS]
    ),
    "LAVIS with lists": write_json(
        "any.json", [{"image": name, "caption": texts} for name, texts in CAPTIONS.items()]
    ),
    "Karpathy": write_json(
        "dataset.json",
        {
            "images": [
                {"filename": n, "sentences": [{"raw": t} for t in ts], "split": "train"}
                for n, ts in CAPTIONS.items()
            ]
        },
    ),
    "Flickr tokens": write_lines("Flickr8k.token.txt", TOKENS),
    "Flickr30k tokens": write_lines("results_20130124.token", TOKENS),
    "Kaggle's captions.txt": lambda folder: table(
        folder / "captions.txt", ["image", "caption"], PAIRS, ","
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("give", ["folder", "file"])
def test_a_format_is_found_and_read_back(folder, name, give):
    written = FORMATS[name](folder)
    listing = find(folder if give == "folder" else written)
    assert {entry.name: entry.captions for entry in listing.entries} == CAPTIONS
    assert not listing.skipped and {entry.split for entry in listing.entries} == {""}
    assert all(entry.source().is_file() for entry in listing.entries)


def test_text_beside_each_picture(folder):
    for name, texts in CAPTIONS.items():
        (folder / "images" / name).with_suffix(".txt").write_text(
            "\n".join(texts) + "\n\n", encoding="utf-8"
        )
    draw(folder / "images" / "bare.png")
    listing = find(folder)
    assert {entry.name: entry.captions for entry in listing.entries} == {
        f"images/{name}": texts for name, texts in CAPTIONS.items()
    }
    assert listing.skipped == [("images/bare.png", "no caption in bare.txt")]


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def picture_bytes(shade=0):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_shards_by_folder_file_and_range_are_read_in_place(tmp_path):
    shard(
        tmp_path / "s-00.tar",
        [
            ("x/1.png", picture_bytes(1)),
            ("x/1.txt", "one"),
            ("x/2.png", picture_bytes(2)),
            ("x/2.cls", "3"),
        ],
    )
    shard(
        tmp_path / "s-01.tar",
        [
            ("3.seg.png", b"?"),
            ("4.json", '{"caption": ["four", "vier"]}'),
            ("4.PNG", picture_bytes(4)),
        ],
    )
    for path in (tmp_path, tmp_path / "s-{00..01}.tar"):
        listing = find(path)
        assert {entry.name: entry.captions for entry in listing.entries} == {
            "s-00.tar:x/1": ["one"],
            "s-01.tar:4": ["four", "vier"],
        }
        assert [entry.source() for entry in listing.entries] == [picture_bytes(1), picture_bytes(4)]
        assert [name for name, _ in listing.skipped] == ["s-00.tar:x/2"]
    assert len(find(tmp_path / "s-00.tar").entries) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s-00.tar", "s-01.tar"]
    with pytest.raises(DataError, match="s-02.tar is not there; check the range"):
        find(tmp_path / "s-{00..02}.tar")


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.txt"])
def test_an_archive_with_climbing_names_is_refused(tmp_path, name):
    path = shard(tmp_path / "bad.tar", [(name, picture_bytes())])
    with pytest.raises(DataError, match=f"stay inside it, but .*bad.tar has '{name}'"):
        find(path)
    assert not (tmp_path.parent / "evil.png").exists()


def test_links_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        entry = tarfile.TarInfo("1.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(entry)
        caption = tarfile.TarInfo("1.txt")
        caption.size = 4
        tar.addfile(caption, io.BytesIO(b"text"))
    with pytest.raises(DataError, match="links.tar gives no picture with a caption"):
        find(tmp_path / "links.tar")


def test_damaged_and_compressed_archives_are_named(tmp_path):
    whole = shard(
        tmp_path / "whole.tar",
        [
            (f"{i}.{kind}", data)
            for i in range(4)
            for kind, data in (("png", picture_bytes()), ("txt", "t"))
        ],
    )
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:5000])
    listing = find(cut)
    assert 1 <= len(listing.entries) < 4 and any(
        "cut off after" in reason for _, reason in listing.skipped
    )
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(whole, "whole.txt")
    (tmp_path / "noise.tar").write_bytes(b"noise" * 300)
    for name in ("packed.tar", "noise.tar"):
        with pytest.raises(
            DataError, match=f"{name} is no tar that can be read in place .*uncompressed"
        ):
            find(tmp_path / name)


def test_splits_come_from_file_names_columns_lists_and_folders(tmp_path):
    for name in "abcd":
        draw(tmp_path / "one" / f"{name}.png")
        draw(tmp_path / "three" / f"{name}.png")
    write_json("annotations/captions_train2017.json", coco({"a.png": ["x"], "b.png": ["y"]}))(
        tmp_path / "one"
    )
    write_json("annotations/captions_val2017.json", coco({"c.png": ["z"]}))(tmp_path / "one")
    write_json("annotations/instances_val2017.json", {"images": [], "annotations": []})(
        tmp_path / "one"
    )
    assert [entry.split for entry in find(tmp_path / "one").entries] == [
        "train",
        "train",
        "validation",
    ]
    for part in ("train", "val", "test"):
        draw(tmp_path / "two" / part / "x.png")
        table(
            tmp_path / "two" / part / "metadata.csv", ["file_name", "text"], [["x.png", part]], ","
        )
    assert {entry.split: entry.name for entry in find(tmp_path / "two").entries} == {
        "train": "train/x.png", "validation": "val/x.png", "test": "test/x.png",
    }  # fmt: skip
    write_lines("Flickr8k.token.txt", [f"{name}.png#0\tword" for name in "abcd"])(
        tmp_path / "three"
    )
    for part, names in (("train", "ab"), ("dev", "c"), ("test", "d")):
        write_lines(f"Flickr_8k.{part}Images.txt", [f"{name}.png" for name in names])(
            tmp_path / "three"
        )
    assert [entry.split for entry in find(tmp_path / "three").entries] == [
        "train",
        "train",
        "validation",
        "test",
    ]
    table(
        tmp_path / "one" / "own.csv",
        ["image", "text", "split"],
        [["a.png", "t", "train"], ["b.png", "t", "test"]],
        ",",
    )
    assert [entry.split for entry in find(tmp_path / "one" / "own.csv").entries] == [
        "train",
        "test",
    ]


def test_columns_and_the_picture_folder_can_be_named(folder):
    path = table(folder / "odd.csv", ["who", "what"], PAIRS, ";")
    options = Options("who", "what", ";", folder / "images")
    assert {entry.name: entry.captions for entry in find(path, options).entries} == CAPTIONS


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda f: table(f / "captions.csv", ["file_name", "label"], [], ","),
            r"line 1 has file_name, label, but captions need .*pass picture_col",
        ),
        (
            lambda f: table(f / "captions.csv", ["text"], [], ","),
            r"line 1 has text, but captions need a picture's name \(file_name, filepath",
        ),
        (write_lines("captions.csv", []), "line 1 has nothing"),
        (
            write_lines("captions.csv", ["image,text", 'a.png,"open']),
            "captions.csv line 3 is no row of a table .*quotes",
        ),
        (
            write_lines("captions.jsonl", ['{"image": "a.png", "text": "t"}', "{"]),
            "line 2 is not JSON",
        ),
        (
            write_lines("captions.jsonl", ['{"image": "a.png", "label": 3}']),
            "line 1 has image, label, but captions need",
        ),
        (write_lines("captions.jsonl", ["[1]"]), "line 1 has list, but captions need"),
        (
            write_json("captions.json", {"images": [], "labels": []}),
            "has images, labels but caption files have",
        ),
        (
            write_json("captions.json", {"images": [{"id": 1}], "annotations": []}),
            "lacks 'file_name'",
        ),
        (
            write_json("captions.json", {"images": [], "annotations": [{"id": 3, "image_id": 4}]}),
            "lacks 'caption' .*instances_",
        ),
        (write_lines("captions.json", ["{"]), "is not JSON .*name it .jsonl"),
        (
            write_lines("Flickr8k.token.txt", ["a.png#0\tt", "nonsense"]),
            "line 2 is 'nonsense' but Flickr",
        ),
        (
            write_lines("captions.csv", ["image,text", "gone.png,t"]),
            r"of 1 entries \(gone.png: no such picture below .*line 2\)\): check the names",
        ),
    ],
)
def test_a_malformed_caption_file_says_what_and_where(folder, write, message):
    write(folder)
    with pytest.raises(DataError, match=message):
        find(folder)


def test_rows_that_cannot_be_used_are_kept_with_their_line(folder):
    write_lines(
        "captions.csv", ["image,text", "a.png,fine", "gone.png,t", "b.png,", ",t", "", "c.jpg"]
    )(folder)
    listing = find(folder)
    assert [entry.name for entry in listing.entries] == ["a.png"]
    below = f"no such picture below {folder}"
    assert listing.skipped == [
        ("gone.png", f"{below} (captions.csv line 3)"), ("b.png", "no caption (captions.csv line 4)"),
        ("captions.csv line 5", "no picture's name (captions.csv line 5)"), ("c.jpg", "no caption (captions.csv line 7)"),
    ]  # fmt: skip


def test_a_first_row_that_stands_behind_the_names_is_named(folder):
    text = "image,caption,note" + "".join(
        f"{name},{caption}\n"
        for name, caption in (("a.png", "one"), ("b.png", "two"), ("c.jpg", "three"))
    )
    (folder / "captions.csv").write_text(text)
    listing = find(folder)
    assert sorted(entry.captions for entry in listing.entries) == [["three"], ["two"]]
    assert (
        "captions.csv: 2 columns that no row has a cell for, not used (notea.png, one)"
        in listing.remarks.lines()
    )


def test_folders_without_captions_say_what_they_hold(tmp_path):
    with pytest.raises(DataError, match="found no file; looked for captions or metadata in .csv"):
        find(tmp_path)
    draw(tmp_path / "a.png")
    (tmp_path / "b.docx").write_text("")
    with pytest.raises(DataError, match="found 1 x .png, 1 x .docx; looked for"):
        find(tmp_path)
    with pytest.raises(DataError, match="nowhere is not there: check the path"):
        find(tmp_path / "nowhere")


def test_two_caption_files_are_not_guessed_between(folder):
    write_numbered(folder)
    FORMATS["csv with commas"](folder)
    with pytest.raises(DataError, match="has captions.csv, metadata.csv: give the file instead"):
        find(folder)


def test_latin_1_is_named_with_its_byte(folder):
    (folder / "captions.csv").write_bytes("image,text\na.png,größe".encode("latin-1"))
    with pytest.raises(DataError, match="is not, from byte 19: save it as UTF-8"):
        find(folder)


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(st.lists(st.lists(words, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=5))
def test_any_text_survives_a_table(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("any")
    draw(folder / "a.png")
    table(folder / "captions.csv", ["file_name", "text"], [["a.png", text] for text in texts], ",")
    assert find(folder).entries[0].captions == [text.strip() for text in texts]
