"""The gallery shows failures first, the rank that the metric counts, and the right answer always."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz.retrieval.gallery import best_candidates, gallery, gallery_alt, worst_first
from tinymm.viz.retrieval.similarity import ranks

scores_and_right = st.tuples(
    arrays(float, (6, 5), elements=st.integers(-3, 3)), arrays(bool, (6, 5))
).map(lambda pair: (pair[0], pair[1] | (np.arange(5) == np.arange(6)[:, None] % 5)))


@given(scores_and_right)
def test_worst_first_never_improves(case):
    scores, right = case
    if right.all(axis=1).any():
        return
    order = worst_first(scores, right, 6)
    assert sorted(order) == list(range(6))
    assert (np.diff(ranks(scores, right)[order]) <= 0).all()


@given(scores_and_right)
def test_the_order_shown_is_the_rank_counted(case):
    for scores, right in zip(*case, strict=True):
        order = best_candidates(scores, right)
        assert (np.diff(scores[order]) <= 0).all()
        first_right = np.flatnonzero(right[order])[0]
        wrong_before = (~right[order][:first_right]).sum()
        assert 1 + wrong_before == ranks(scores[None], right[None])[0]


def pictures(n):
    return np.random.default_rng(0).random((n, 4, 4, 1))


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_truth_is_shown_even_when_it_is_last():
    """Eleven candidates, the right one scored lowest: its rank is written and it is drawn as a sixth candidate."""
    scores = -np.eye(11)
    figure = gallery(scores, pictures(11), [f"caption {i}" for i in range(11)], rows=1)
    assert texts(figure).count("rank 11\nof 11") == 2
    assert any(text.startswith("… caption") for text in texts(figure))
    assert len(figure.axes[0].images) == 6 + 1
    assert "0 of 11 cases (R@1 0.00, chance 0.091). The worst rank is 11 of 11" in figure.alt


def test_right_answers_are_said_to_be_right():
    figure = gallery(np.eye(3), pictures(3), ["a", "b", "c"])
    assert texts(figure).count("right") == 6


def test_distractors_and_several_captions():
    """Picture 0 has two captions, picture 2 none; caption 3 belongs to none and is never a query."""
    scores = np.array([[0.1, 0.9, 0.0, 0.2], [0.0, 0.1, 0.8, 0.3], [0.5, 0.0, 0.1, 0.9]])
    alt = gallery_alt(scores, pictures(3), ["a", "b", "c", "d"], np.array([0, 0, 1, -1]))
    assert "Captions find their picture first in 2 of 3 cases" in alt
    assert "Pictures find their caption first in 2 of 2 cases" in alt
    assert "worst caption is “a”, rank 2" in alt


def test_more_distractors_never_raise_recall():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(6, 12))
    owner = np.r_[np.arange(6), -np.ones(6, int)]
    found = []
    for m in range(6, 13):
        found.append(
            int(
                gallery_alt(scores[:, :m], pictures(6), ["x"] * m, owner[:m])
                .splitlines()[1]
                .split("in ")[1]
                .split(" of")[0]
            )
        )
    assert (np.diff(found) <= 0).all()


def test_any_caption_is_drawable():
    words = ["$x^2", "\U0001f680 " * 60, ""]
    gallery(np.random.default_rng(0).normal(size=(3, 3)), pictures(3), words).canvas.draw()


def reranked(scores, k, rng):
    """Return a head's tables of both directions for the k best of each query, -inf elsewhere."""
    tables = []
    for table in (scores, scores.T):
        near = np.zeros(table.shape, bool)
        np.put_along_axis(near, np.argsort(-table, axis=1)[:, :k], True, axis=1)
        tables.append(np.where(near, rng.normal(size=table.shape) * 5, -np.inf))
    return tables[0], tables[1]


def test_what_a_head_has_not_looked_at_stands_behind_without_a_number():
    """Of 30 candidates the head sees 4: no sentinel, no cosine is drawn in its unit, and the rank is that of candidates, then of ITC."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(30, 30))
    to_texts, to_pictures = reranked(scores, 4, rng)
    figure = gallery(
        scores,
        pictures(30),
        [f"caption {i}" for i in range(30)],
        unit="ITM's logit",
        reranked=(to_texts, to_pictures),
    )
    said = texts(figure)
    assert (
        said.count("not among\nITC's best 4") >= 4
        and sum("· not among ITC's best 4" in text for text in said) >= 4
    )
    assert sum("bars: ITM's logit" in text for text in said) == 2 and not any(
        "cosine" in text for text in said
    )
    drawn = {
        f"{value:z.2f}".replace("-", "−")
        for value in np.r_[to_texts[np.isfinite(to_texts)], to_pictures[np.isfinite(to_pictures)]]
    }
    numbers = [text for text in said if text.replace("−", "").replace(".", "").isdigit()]
    assert numbers and set(numbers) <= drawn
    ahead = [[*np.argsort(-np.where(np.isfinite(row), row, -np.inf))[:4]] for row in to_texts]
    order = [
        [*first, *[i for i in np.argsort(-scores[j]) if i not in first]]
        for j, first in enumerate(ahead)
    ]
    worst = max(row.index(j) + 1 for j, row in enumerate(order))
    assert f"The worst rank is {worst} of 30" in figure.alt.splitlines()[1]


def test_without_a_head_it_is_as_before_and_tables_must_fit():
    scores = np.random.default_rng(0).normal(size=(5, 7))
    owner = np.array([0, 1, 2, 3, 4, -1, -1])
    both = gallery_alt(scores, pictures(5), ["x"] * 7, owner, (scores, scores.T))
    assert both == gallery_alt(scores, pictures(5), ["x"] * 7, owner)
    with pytest.raises(ShapeError, match=r"got \(5, 7\) for \(7, 5\)"):
        gallery_alt(scores, pictures(5), ["x"] * 7, owner, (scores, scores))


def test_errors():
    with pytest.raises(ShapeError, match=r"\(2, 3\), 3, 2.*rows of the similarities"):
        gallery(np.zeros((2, 3)), pictures(3), ["a", "b"])
    with pytest.raises(DataError, match="none of 2 does"):
        gallery(np.zeros((3, 2)), pictures(3), ["a", "b"], np.array([-1, -1]))
    with pytest.raises(DataError, match="9 are not"):
        gallery(np.full((3, 3), np.nan), pictures(3), ["a", "b", "c"])
