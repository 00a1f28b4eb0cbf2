"""What a run remembers of its data: every change is named, and nothing else is."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pairs import build

from tinymm.arrays.errors import DataError
from tinymm.data.builtin import glyphs
from tinymm.data.your_data import pairs
from tinymm.data.your_data.fingerprint import (
    SPLITS,
    Record,
    difference,
    digest,
    fingerprint,
    trained_on,
)


class Listed:
    def __init__(self, records):
        self.listed = list(records)

    def records(self):
        return iter(self.listed)


def remembered(records):
    return json.loads(json.dumps(fingerprint(Listed(records))))


names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)
captions = st.lists(
    st.sampled_from(["a cat", "a dog", "größer", "猫"]), min_size=1, max_size=3
).map(tuple)
records = st.dictionaries(
    names,
    st.tuples(captions, st.sampled_from(SPLITS), st.binary(min_size=8, max_size=8)),
    max_size=12,
)


@given(records, records)
def test_two_fingerprints_are_equal_exactly_if_the_records_are(one, two):
    one, two = ([Record(name, *rest) for name, rest in some.items()] for some in (one, two))
    assert difference(remembered(one), remembered(reversed(one))) is None
    assert (difference(remembered(one), remembered(two)) is None) == (sorted(one) == sorted(two))


BASE = [
    Record(f"{i}.png", (f"thing {i}",), "train" if i else "validation", digest(bytes([i])))
    for i in range(5)
]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: [*r, Record("new.png", ("t",), "train")], "1 picture has been added (new.png)"),
        (lambda r: r[2:], "2 pictures are gone (0.png, 1.png)"),
        (
            lambda r: [r[0]._replace(split="train"), *r[1:]],
            "1 picture has moved from validation to train (0.png)",
        ),
        (
            lambda r: [one._replace(captions=("t",)) for one in r],
            "the captions of 5 pictures have changed (0.png, 1.png, 2.png, …)",
        ),
        (
            lambda r: [r[0]._replace(captions=("thing", "0")), *r[1:]],
            "the captions of 1 picture have changed (0.png)",
        ),
        (
            lambda r: [r[0]._replace(content=digest(b"other")), *r[1:]],
            "the bytes of 1 picture have changed (0.png)",
        ),
        (
            lambda r: [Record("new.png", ("t",), "test"), *r[1:-1], r[-1]._replace(split="test")],
            "1 picture has been added (new.png), 1 picture is gone (0.png), 1 picture has moved from train to test (4.png)",
        ),
    ],
)
def test_each_change_is_named(change, said):
    assert difference(remembered(BASE), remembered(change(BASE))) == said


def test_what_was_trained_on_and_is_kept_back_now_is_named_by_name_and_by_content():
    later = [
        BASE[0],
        BASE[1]._replace(split="test"),
        BASE[2]._replace(name="copy.png", split="validation"),
        *BASE[3:],
    ]
    assert trained_on(remembered(BASE), remembered(later)) == ["1.png", "copy.png"]
    assert trained_on(remembered(BASE), remembered(BASE)) == []
    unseen = [
        record._replace(content=b"") for record in BASE
    ]  # drawn pictures have no bytes to compare
    assert trained_on(remembered(unseen), remembered(unseen)) == []


def test_ten_thousand_pictures_take_half_a_megabyte():
    rng = np.random.default_rng(0)
    many = [
        Record(f"{rng.bytes(16).hex()}.jpg", (f"caption {i}",), "train", rng.bytes(8))
        for i in range(10_000)
    ]
    kept = fingerprint(Listed(many))
    assert len(json.dumps(kept)) < 6e5
    assert difference(kept, fingerprint(Listed(many[1:]))) == f"1 picture is gone ({many[0].name})"


def test_a_source_of_files_is_remembered_by_name_captions_split_and_bytes(tmp_path):
    source = pairs.load(build(tmp_path), resolution=8)
    kept = fingerprint(source)
    assert (kept["pictures"], kept["captions"]) == (20, 40) and kept["splits"]["train"] == len(
        source
    )
    assert difference(kept, fingerprint(pairs.load(tmp_path, resolution=8))) is None
    (tmp_path / "03.png").write_bytes((tmp_path / "03.png").read_bytes() + b" ")
    assert (
        difference(kept, fingerprint(pairs.load(tmp_path, resolution=8)))
        == "the bytes of 1 picture have changed (03.png)"
    )
    source.splits["train"][0] = replace(source.splits["train"][0], captions=["other"])
    assert "the captions of 1 picture have changed" in difference(kept, fingerprint(source))


def test_built_in_data_are_remembered_too():
    one, two = (fingerprint(glyphs.load(seed)) for seed in (0, 0))
    assert difference(one, two) is None and one["pictures"] == len(glyphs.load(0)) + 300


@pytest.mark.parametrize(
    "spoil", [{"names": "!"}, {"marks": "AAAA"}, {"names": "AAAA"}, {"pictures": None, "names": 3}]
)
def test_a_damaged_fingerprint_is_refused(spoil):
    with pytest.raises(DataError, match="this one is damaged"):
        difference({**remembered(BASE), "digest": "", **spoil}, remembered(BASE))
    with pytest.raises(DataError, match="this one is damaged"):
        trained_on({}, remembered(BASE))
