"""The similarity explorer's numbers are those of the losses: cosines, both softmaxes, Figure 3's loss, duplicates, hardest pairs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_explorer import data_of, drawings

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.losses import itc_loss
from tinymm.viz import SimilarityExplorer
from tinymm.viz.retrieval.similarity import ranks, same_meaning
from tinymm.viz.widgets.explorer import palette, rounded

PICTURES = np.random.default_rng(0).random((5, 8, 6, 3))
CAPTIONS = ["a red ball", "a blue ball", "a red ball", "a star", "a tree"]
matrices = st.integers(2, 6).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(-1, 1)))


def names(n):
    return [f"caption {i}" for i in range(n)]


def pictures(n):
    return np.random.default_rng(1).random((n, 3, 3))


def drawn(page):
    """Return the cells' texts, classes and titles, and the texts beside rows and below columns."""
    svg = max(drawings(page), key=lambda each: len(list(each.iter())))
    rows = [
        [cell for cell in row if cell.get("role") == "gridcell"]
        for row in svg.iter("g")
        if row.get("role") == "row"
    ]
    rows = [row for row in rows if row]
    margins = [
        [group.find("text").text for group in svg.iter("g") if group.get("class") == kind]
        for kind in ("tm-p-row", "tm-p-column")
    ]
    return rows, margins


@given(matrices, st.floats(0, 200))
def test_the_numbers_are_those_of_the_computation(matrix, scale):
    matrix = np.round(matrix, 6)
    n = len(matrix)
    explorer = SimilarityExplorer(pictures(n), names(n), matrix, scale=scale)
    rows, (beside, below) = drawn(explorer._repr_html_())
    scale = round(scale, 6)
    scores = scale * matrix.T  # a caption in each row
    own = np.diagonal(scores)
    for i in range(n):
        for j in range(n):
            assert rows[i][j].find("text").text == rounded(matrix[j, i], 2)
    for shown, axis in ((beside, 1), (below, 0)):
        np.testing.assert_allclose(
            [float(each[:-1]) for each in shown],
            100 * np.exp(own - np.logaddexp.reduce(scores, axis=axis)),
            atol=0.0501,
        )
    assert explorer.loss() == pytest.approx(itc_loss(scale * matrix).item())
    assert (
        f"Loss {rounded(explorer.loss(), 3)} at scale" in explorer._repr_html_()
        and f"ln {n} = {rounded(math.log(n), 3)}" in explorer.alt()
    )


def test_both_softmaxes_sum_to_one_from_uniform_to_one_hot():
    explorer = SimilarityExplorer(
        PICTURES, CAPTIONS, np.random.default_rng(2).uniform(-1, 1, (5, 5))
    )
    assert explorer.scales[0] == 0 and max(explorer.scales) >= 1000
    for scale in explorer.scales:
        rows, columns = explorer.probabilities(scale=scale)
        np.testing.assert_allclose(rows.sum(1), 1)
        np.testing.assert_allclose(columns.sum(0), 1)
    rows, columns = explorer.probabilities(scale=0)
    assert (
        np.allclose(rows, 0.2)
        and np.allclose(columns, 0.2)
        and explorer.loss(scale=0) == pytest.approx(math.log(5))
    )
    assert explorer.probabilities(scale=3000)[0].max(axis=1).min() > 0.99


def test_features_give_their_cosines():
    rng = np.random.default_rng(3)
    I, T = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    cosines = (I / np.linalg.norm(I, axis=1, keepdims=True)) @ (
        T / np.linalg.norm(T, axis=1, keepdims=True)
    ).T
    explorer = SimilarityExplorer(PICTURES, CAPTIONS, (3 * I, T), before=(T, I))
    np.testing.assert_allclose(explorer.scores(), cosines.T, atol=5.1e-7)
    np.testing.assert_allclose(explorer.scores("before"), cosines, atol=5.1e-7)


def test_own_pairs_duplicates_and_hardest_are_marked():
    matrix = np.random.default_rng(4).uniform(-1, 1, (5, 5))
    explorer = SimilarityExplorer(PICTURES, CAPTIONS, matrix)
    rows, _ = drawn(explorer._repr_html_())
    kinds = [[cell.get("class").removeprefix("tm-number tm-") for cell in row] for row in rows]
    right = same_meaning(PICTURES, CAPTIONS)
    for i in range(5):
        hardest = np.where(right[i], -np.inf, matrix[:, i]).argmax()
        assert kinds[i] == [
            "own" if j == i else "also" if right[i, j] else "hard" if j == hardest else "wrong"
            for j in range(5)
        ]
        assert explorer.hardest()[i] == hardest
    assert kinds[0][2] == kinds[2][0] == "also" and "bracketed" in explorer._repr_html_()
    assert (
        "bracketed"
        not in SimilarityExplorer(PICTURES[:2], CAPTIONS[:2], matrix[:2, :2])._repr_html_()
    )
    for words, (i, j) in {
        "They are a pair.": (1, 1),
        "Also right": (0, 2),
        "Hardest wrong": (0, explorer.hardest()[0]),
    }.items():
        assert words in explorer.cell(i, j)


def test_where_all_are_right_nothing_is_hardest():
    explorer = SimilarityExplorer(PICTURES[:2], ["a", "a"], np.eye(2))
    assert explorer.hardest().tolist() == [-1, -1] and explorer._repr_html_()


def test_shade_follows_the_number_over_before_and_after():
    before, after = np.zeros((2, 2)), np.array([[1.0, -1.0], [0.0, 0.5]])
    rows, _ = drawn(
        SimilarityExplorer(PICTURES[:2], ["a", "b"], after, before=before)._repr_html_()
    )
    colors = [[cell.find("rect").get("fill") for cell in row] for row in rows]
    palette_ = palette()[0]
    assert (
        colors[0][0] == palette_[-1]
        and colors[1][0] == palette_[0]
        and palette_.index(colors[1][1]) > palette_.index(colors[0][1])
    )


def test_words_and_table():
    explorer = SimilarityExplorer(PICTURES, CAPTIONS, np.eye(5), before=np.zeros((5, 5)), scale=10)
    hits = (ranks(np.eye(5), same_meaning(PICTURES, CAPTIONS)) == 1).sum()
    assert explorer.alt().startswith(
        f"{hits} of 5 captions find their picture (chance: 1.4); 0 before training."
    )
    table = explorer.table()
    assert "before training" in table and "after training" in table and table.count("Loss") == 2
    assert [line for line in table.splitlines() if line.startswith(" 3 a star")][1].split()[
        3:8
    ] == ["0.00", "0.00", "0.00", "1.00", "0.00"]


def test_the_models_scale_is_a_stop_of_the_slider():
    data = data_of(SimilarityExplorer(PICTURES, CAPTIONS, np.eye(5), scale=14.2857)._repr_html_())
    assert (
        data["scales"][data["at"]] == 14.2857
        and data["said"][data["at"]] == "scale 14.29 (temperature 0.07)"
    )
    assert (
        data["scales"] == sorted(set(data["scales"])) and data["said"][0] == "scale 0 (all alike)"
    )


def test_errors():
    with pytest.raises(UsageError, match="2 to 40 pairs, and 1 came"):
        SimilarityExplorer(PICTURES[:1], ["a"], np.ones((1, 1)))
    with pytest.raises(
        UsageError, match="shows 1 to 40 pairs in its panels: got 500 in 1; pass a part"
    ):
        SimilarityExplorer(np.zeros((500, 2, 2)), names(500), np.zeros((500, 500)))
    with pytest.raises(ShapeError, match=r"got 'after' \(4, 5\), 5 pictures, 5 captions"):
        SimilarityExplorer(PICTURES, CAPTIONS, np.zeros((4, 5)))
    with pytest.raises(ShapeError, match=r"got \(5, 3\) and \(4, 3\); pass the same pairs"):
        SimilarityExplorer(PICTURES, CAPTIONS, (np.ones((5, 3)), np.ones((4, 3))))
    with pytest.raises(DataError, match="'before' holds 1 that are not"):
        SimilarityExplorer(
            PICTURES[:2], CAPTIONS[:2], np.eye(2), before=np.array([[np.nan, 0], [0, 0]])
        )
    with pytest.raises(DataError, match=r"finite and ≥ 0, and -1 came; pass exp\(t\)"):
        SimilarityExplorer(PICTURES, CAPTIONS, np.eye(5), scale=-1)
