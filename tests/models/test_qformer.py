"""The Q-Former under its masks: who can influence whom, measured on the model itself, and the invariants of BLIP-2's three objectives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import randomized

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.layers import (
    Cache,
    bidirectional_mask,
    multimodal_causal_mask,
    padding_mask,
    reachability,
    unimodal_mask,
)
from tinymm.models.bert import Bert, BertConfig
from tinymm.models.qformer import QFormer, QFormerConfig

MASKS = {"itc": unimodal_mask, "itg": multimodal_causal_mask, "itm": bidirectional_mask}
MEMORY = np.random.default_rng(5).standard_normal((2, 5, 24))


def qformer(queries=3, layers=2, every=1, seed=1):
    config = QFormerConfig.tiny(
        queries=queries, layers=layers, cross_every=every, width=16, heads=2, feed_forward=24
    )
    return randomized(QFormer(config, np.random.default_rng(seed)), seed).astype("float64")


MODELS = {Q: qformer(Q) for Q in (1, 2, 4)}
texts = st.lists(
    st.integers(1, 6), min_size=2, max_size=2
)  # how many of the tokens of each row are real


def batch(lengths, seed, T=None):
    """Return ids (2, T) and is_real for texts of these lengths."""
    T = max(lengths) if T is None else T
    ids = np.random.default_rng(seed).integers(1, 50, (2, T))
    return ids, np.arange(T) < np.array(lengths)[:, None]


@given(
    Q=st.sampled_from(list(MODELS)),
    lengths=texts,
    objective=st.sampled_from(list(MASKS)),
    seed=st.integers(0, 99),
)
def test_the_jacobian_is_zero_exactly_where_reachability_says_so(Q, lengths, objective, seed):
    # Every output row's derivative along random directions of every input row, by the graph itself: random, because the norms erase a constant.
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    mask = MASKS[objective](Q, is_real)
    rng = np.random.default_rng(seed)
    rows = Q + ids.shape[1]
    outside = [model.queries.data, model.embedding(ids).data]
    reach = reachability([mask] * len(model.blocks))[:, 0]
    for looking in range(rows):
        gradients = gradients_of(model, outside, mask, looking, rng)
        for b in range(2):
            real = [*range(Q), *(Q + np.flatnonzero(is_real[b]))]
            if looking not in real:
                continue  # what stands at padding is nobody's business
            for looked_at in range(rows):
                size = np.abs(gradients[b, looked_at]).max()
                assert (size > 0) == bool(reach[b, looking, looked_at]), (
                    objective,
                    b,
                    looking,
                    looked_at,
                    size,
                )


def gradients_of(model, outside, mask, looking, rng):
    """Return d(random direction of output row `looking`) / d(input rows), (B, rows, D), by the backward pass."""
    from tinymm.autodiff import Tensor

    queries, words = outside
    Q = len(queries)
    x = Tensor(
        np.concatenate([np.broadcast_to(queries, (2, *queries.shape)), words], axis=1),
        requires_grad=True,
    )
    h = model.norm(x)
    for block in model.blocks:
        h = block(h, Q, mask, MEMORY)
    direction = np.zeros(h.shape)
    direction[:, looking] = rng.standard_normal((2, h.shape[-1]))
    h.backward(gradient=direction)
    return x.grad


@given(Q=st.sampled_from(list(MODELS)), lengths=texts, seed=st.integers(0, 99))
def test_itg_and_itc_compute_the_same_queries(Q, lengths, seed):
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    itc, itg = (model(MEMORY, ids, MASKS[name](Q, is_real)).data[:, :Q] for name in ("itc", "itg"))
    np.testing.assert_allclose(itg, itc, atol=1e-12)
    np.testing.assert_allclose(
        itc, model(MEMORY).data, atol=1e-12
    )  # nor does it matter that there is a text at all


@given(Q=st.sampled_from(list(MODELS)), lengths=texts, seed=st.integers(0, 99))
def test_itcs_text_is_a_plain_bert_without_a_picture(Q, lengths, seed):
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    bert = Bert(BertConfig(50, 12, 16, 2, 2, 24), np.random.default_rng(0)).astype("float64")
    state = model.state_dict()
    bert.load_state_dict({name: state[name] for name in bert.state_dict()})
    beside = model(MEMORY, ids, unimodal_mask(Q, is_real)).data[:, Q:]
    np.testing.assert_allclose(beside[is_real], bert(ids, is_real).data[is_real], atol=1e-12)
    np.testing.assert_allclose(
        beside[is_real], model(ids=ids, may_attend=padding_mask(is_real)).data[is_real], atol=1e-12
    )


@given(
    Q=st.sampled_from(list(MODELS)),
    lengths=texts,
    objective=st.sampled_from(list(MASKS)),
    extra=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_padding_moves_nothing_valid(Q, lengths, objective, extra, seed):
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    T = ids.shape[1]
    junk = np.random.default_rng(seed + 1).integers(0, 50, (2, T + extra))
    longer = junk.copy()
    longer[:, :T] = np.where(is_real, ids, junk[:, :T])
    real = np.concatenate([is_real, np.zeros((2, extra), bool)], axis=1)
    found = model(MEMORY, longer, MASKS[objective](Q, real)).data
    expected = model(MEMORY, ids, MASKS[objective](Q, is_real)).data
    np.testing.assert_allclose(found[:, :Q], expected[:, :Q], atol=1e-12)
    np.testing.assert_allclose(found[:, Q : Q + T][is_real], expected[:, Q:][is_real], atol=1e-12)


@given(Q=st.sampled_from(list(MODELS)), lengths=texts, data=st.data(), seed=st.integers(0, 99))
def test_a_later_word_reaches_no_earlier_one_under_itg_and_every_query_under_itm(
    Q, lengths, data, seed
):
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    k = data.draw(st.integers(0, lengths[0] - 1))
    other = ids.copy()
    other[0, k] = 1 + ids[0, k] % 49
    changed = {
        name: model(MEMORY, other, MASKS[name](Q, is_real)).data
        - model(MEMORY, ids, MASKS[name](Q, is_real)).data
        for name in MASKS
    }
    moved = {name: np.abs(difference[0]).max(axis=1) > 1e-9 for name, difference in changed.items()}
    assert (
        moved["itg"].tolist() == [False] * (Q + k) + moved["itg"][Q + k :].tolist()
        and moved["itg"][Q + k : Q + lengths[0]].all()
    )
    assert moved["itm"][: Q + lengths[0]].all() and not moved["itc"][:Q].any()


@given(lengths=texts, objective=st.sampled_from(list(MASKS)), seed=st.integers(0, 99))
def test_queries_have_no_order_and_neither_have_picture_tokens(lengths, objective, seed):
    model, (ids, is_real) = qformer(4), batch(lengths, seed)
    rng = np.random.default_rng(seed)
    before = model(MEMORY, ids, MASKS[objective](4, is_real)).data
    shuffled = model(MEMORY[:, rng.permutation(5)], ids, MASKS[objective](4, is_real)).data
    np.testing.assert_allclose(shuffled, before, atol=1e-12)
    order = rng.permutation(4)
    model.queries.data = model.queries.data[order]
    after = model(MEMORY, ids, MASKS[objective](4, is_real)).data
    np.testing.assert_allclose(after[:, :4], before[:, order], atol=1e-12)
    np.testing.assert_allclose(after[:, 4:][is_real], before[:, 4:][is_real], atol=1e-12)


@given(Q=st.sampled_from(list(MODELS)), lengths=texts, seed=st.integers(0, 99))
def test_remembered_keys_are_one_pass_with_the_mask(Q, lengths, seed):
    model, (ids, is_real) = MODELS[Q], batch(lengths, seed)
    caches = [Cache() for _ in model.blocks]
    queries = model(MEMORY, caches=caches)
    words = model(ids=ids, may_attend=multimodal_causal_mask(Q, is_real)[:, :, Q:], caches=caches)
    expected = model(MEMORY, ids, multimodal_causal_mask(Q, is_real)).data
    np.testing.assert_allclose(queries.data, expected[:, :Q], atol=1e-12)
    np.testing.assert_allclose(words.data[is_real], expected[:, Q:][is_real], atol=1e-12)


def test_words_one_at_a_time_are_all_words_at_once():
    model, (ids, is_real) = MODELS[2], batch([5, 5], 0)
    caches = [Cache() for _ in model.blocks]
    model(MEMORY, caches=caches)
    steps = [model(ids=ids[:, t : t + 1], caches=caches).data for t in range(5)]
    expected = model(MEMORY, ids, multimodal_causal_mask(2, is_real)).data[:, 2:]
    np.testing.assert_allclose(np.concatenate(steps, axis=1), expected, atol=1e-12)


def test_only_every_second_layer_looks_and_only_queries_do():
    model = qformer(layers=4, every=2)
    assert [block.cross is not None for block in model.blocks] == [True, False, True, False]
    ids, is_real = batch([4, 4], 0)
    pictures = (MEMORY, MEMORY + np.random.default_rng(0).standard_normal(MEMORY.shape))
    one, other = (model(memory, ids, unimodal_mask(3, is_real)).data for memory in pictures)
    np.testing.assert_array_equal(one[:, 3:], other[:, 3:])
    assert np.abs(one[:, :3] - other[:, :3]).max() > 1e-6


def test_fresh_queries_differ_and_their_feed_forwards_begin_as_the_words():
    model = QFormer(QFormerConfig.tiny(), np.random.default_rng(0))
    assert len(np.unique(model.queries.data, axis=0)) == 4
    for block in model.blocks:
        for name, array in block.mlp.state_dict().items():
            np.testing.assert_array_equal(block.query_mlp.state_dict()[name], array)


@pytest.mark.parametrize(
    "error, call, said",
    [
        (
            ShapeError,
            lambda m, ids: m(np.zeros((2, 5, 23))),
            r"takes \(B, tokens, 24\) and \(2, 5, 23\) came",
        ),
        (ShapeError, lambda m, ids: m(ids=np.ones((2, 13), int)), "1 to 12 tokens .* 13 came"),
        (
            DataError,
            lambda m, ids: m(ids=np.full((2, 3), 50)),
            r"ids must lie in \[0, 50\) and 50 came",
        ),
        (
            UsageError,
            lambda m, ids: m(np.zeros((2, 5, 24)), ids),
            "3 queries and 4 words needs a mask",
        ),
        (UsageError, lambda m, ids: m(), "neither came"),
        (
            UsageError,
            lambda m, ids: m(np.zeros((3, 5, 24)), ids, np.ones((1, 1), bool)),
            "3 pictures with 2 texts came",
        ),
    ],
)
def test_what_does_not_fit_is_named(error, call, said):
    with pytest.raises(error, match=said):
        call(qformer(), np.ones((2, 4), int))


def test_a_qformer_without_words_says_so():
    model = QFormer(QFormerConfig.tiny(vocabulary=None), np.random.default_rng(0))
    assert model(np.zeros((2, 5, 24), np.float32)).shape == (2, 4, 32)
    with pytest.raises(
        UsageError, match=r"no text half and ids \(2, 3\) came; give the config a vocabulary"
    ):
        model(ids=np.ones((2, 3), int))
