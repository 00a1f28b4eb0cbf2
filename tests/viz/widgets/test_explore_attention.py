"""The attention explorer's numbers are the recorded weights, for each layer, head and token."""

import numpy as np
import pytest
from test_explorer import data_of, drawings, weights

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.layers import MultiHeadAttention, record_attention
from tinymm.viz import AttentionExplorer
from tinymm.viz.attention.maps import effective_keys
from tinymm.viz.widgets.explorer import palette, rounded, share

MAPS = weights(3, 2, 4, 10)
WORDS = ["a", "red", "ball", "[SEP]"]
PICTURE = np.random.default_rng(0).random((9, 9, 3))


def cells(page, kind):
    return [
        group for svg in drawings(page) for group in svg.iter("g") if group.get("class") == kind
    ]


@pytest.mark.parametrize("layer, head, query", [(0, None, 0), (2, 1, 3), (-1, 0, "ball")])
def test_what_is_drawn_is_what_was_recorded(layer, head, query):
    explorer = AttentionExplorer(
        list(MAPS), WORDS, picture=PICTURE, layer=layer, head=head, query=query
    )
    place = WORDS.index(query) if isinstance(query, str) else query
    row = (MAPS[layer].mean(axis=0) if head is None else MAPS[layer, head])[place]
    np.testing.assert_allclose(explorer.shown(), row, atol=5.1e-5)
    page = explorer._repr_html_()
    keys = cells(page, "tm-key")
    titles = [
        f"{name}: {share(value)}"
        for name, value in zip(explorer.keys, explorer.shown(), strict=True)
    ]
    assert [key.find("title").text for key in keys] == titles and titles[1].startswith(
        "row 1, column 1: "
    )
    assert [key.findall("text")[-1].text.removeprefix("class ") for key in keys] == [
        rounded(100 * value, 1) for value in explorer.shown()
    ]
    assert keys[int(row.argmax())].find("rect").get("fill") == palette()[0][-1]
    lookers = cells(page, "tm-look")
    assert [each.get("aria-selected") for each in lookers] == [
        str(i == place).lower() for i in range(4)
    ]
    for i, each in enumerate(lookers):
        assert [text.text for text in each.findall("text")] == [
            WORDS[i],
            rounded(effective_keys(explorer.shown(i)), 1),
        ]
    stored = np.array(data_of(page)["weights"]) / 10_000
    np.testing.assert_allclose(stored[:, 1:], MAPS, atol=5.1e-5)
    np.testing.assert_allclose(stored[:, 0], MAPS.mean(axis=1), atol=5.1e-5)


def test_the_veil_opens_where_the_weight_lies():
    row = np.array([0.1, 0.6, 0.3, 0.0])
    page = AttentionExplorer([np.tile(row, (1, 1, 1))], ["a"], picture=PICTURE)._repr_html_()
    veils = [
        float(each.get("fill-opacity"))
        for svg in drawings(page)
        for each in svg.iter("rect")
        if each.get("class") == "tm-veil"
    ]
    np.testing.assert_allclose(veils, 0.9 * (1 - row / 0.6), atol=0.0051)


def test_words_look_at_words():
    mask = np.tri(4, dtype=bool)
    layer = MultiHeadAttention(8, 2, rng=np.random.default_rng(0))
    with record_attention() as maps:
        layer(np.random.default_rng(1).standard_normal((3, 4, 8)), mask)
    explorer = AttentionExplorer(maps, WORDS, pair=2, query="a")
    assert explorer.shown().tolist() == [1, 0, 0, 0], "the first word sees itself alone"
    assert (
        explorer.sentence()
        == "a looks at 1.0 of 4 keys in layer 1, mean of heads: most at a (100.0%)."
    )
    np.testing.assert_allclose(explorer.shown("ball"), maps[0][2].mean(axis=0)[2], atol=5.1e-5)
    keys = cells(explorer._repr_html_(), "tm-key")
    assert [[text.text for text in key.findall("text")] for key in keys] == [
        ["a", "100.0"],
        ["red", "0.0"],
        ["ball", "0.0"],
        ["[SEP]", "0.0"],
    ]
    assert explorer.table().splitlines()[-4:] == [
        " 100.0% a",
        "   0.0% red",
        "   0.0% ball",
        "   0.0% [SEP]",
    ]


def test_a_row_that_may_look_at_nothing():
    explorer = AttentionExplorer([np.zeros((1, 1, 4))], ["a"], picture=PICTURE)
    assert (
        explorer.sentence() == "a looks at nothing in layer 1, mean of heads."
        and "none" in explorer._repr_html_()
    )


def test_a_picture_that_is_not_square():
    explorer = AttentionExplorer(weights(1, 1, 1, 7), ["a"], picture=np.zeros((8, 12)), grid=(2, 3))
    assert explorer.keys == ["class", *(f"row {y}, column {x}" for y in (1, 2) for x in (1, 2, 3))]
    assert len(explorer.table().splitlines()[-1].split()) == 3


def test_words_tell_the_mean_number_of_keys():
    said = AttentionExplorer(list(MAPS), WORDS, picture=PICTURE).alt()
    assert (
        f"{rounded(effective_keys(MAPS[1].mean(axis=0)).mean(), 1)} in layer 2" in said
        and said.endswith(", of 10.")
    )


def test_errors():
    with pytest.raises(
        UsageError,
        match=r"at most 64 tokens, 257 keys and 120,000 weights, and 500 tokens, 500 keys, 500,000 weights",
    ):
        AttentionExplorer([np.full((1, 500, 500), 1 / 500)], [str(i) for i in range(500)])
    with pytest.raises(ShapeError, match=r"got \(2, 4, 10\), 3, 10; name every token once"):
        AttentionExplorer(list(MAPS), WORDS[:3], picture=PICTURE)
    with pytest.raises(
        ShapeError, match=r"all of one size: got \(1, 2, 2\), \(1, 3, 3\); pick those of one tower"
    ):
        AttentionExplorer([np.ones((1, 2, 2)), np.ones((1, 3, 3))], ["a", "b"])
    with pytest.raises(ShapeError, match="got none; pick"):
        AttentionExplorer([], ["a"])
    with pytest.raises(
        ShapeError,
        match=r"picture's 7 keys are rows · columns of patches, or one more: got \(2, 2\)",
    ):
        AttentionExplorer(weights(1, 1, 1, 7), ["a"], picture=PICTURE)
    with pytest.raises(UsageError, match="one of the batch's 3, and 3 came; count from 0"):
        AttentionExplorer([weights(3, 1, 1, 2)], ["a"], keys=["b", "c"], pair=3)
    with pytest.raises(DataError, match=r"lie in \[0, 1\]: got -1 to 3; pass what softmax gives"):
        AttentionExplorer([np.array([[[-1.0, 3.0]]])], ["a"], keys=["b", "c"])
