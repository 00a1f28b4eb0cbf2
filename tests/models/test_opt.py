"""OPT: who may know what, a text read at once or in pieces, padding on either side, and how prompts go on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import randomized

import tinymm.layers.basic
import tinymm.models.opt
from tinymm import Tensor
from tinymm.arrays.errors import DataError, DtypeError, ShapeError, UsageError
from tinymm.layers import Cache
from tinymm.models.decoding import log_softmax
from tinymm.models.opt import OFFSET, OPT, OPTConfig
from tinymm.tasks import losses

D, CONTEXT = 16, 14
MODEL = (
    randomized(
        OPT(
            OPTConfig.tiny(width=D, heads=2, feed_forward=24, context=CONTEXT),
            np.random.default_rng(0),
        )
    )
    .astype("float64")
    .eval()
)
V = MODEL.config.vocabulary
seeds = st.integers(0, 9999)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=3)
searches = st.sampled_from(
    [{}, {"beams": 3}, {"beams": 2, "length_penalty": 0.0, "min_new_tokens": 2}]
)


def batch(lengths, side, seed, more=0):
    """Return texts (B, T) of these lengths with padding on one side, or in between, and is_real; `more` pads the longest, too."""
    rng = np.random.default_rng(seed)
    T = max(lengths) + more
    is_real = np.zeros((len(lengths), T), bool)
    for row, n in enumerate(lengths):
        is_real[
            row,
            {"right": range(n), "left": range(T - n, T), "anywhere": rng.permutation(T)[:n]}[side],
        ] = True
    return rng.integers(0, V, is_real.shape), is_real  # the padding's ids are any


def soft_words(rows, seed, Q=3):
    return np.random.default_rng(seed).standard_normal((rows, Q, D))


# ---------------------------------------------------------------------- who may know what
@given(lengths, st.sampled_from(["left", "right", "anywhere"]), seeds)
def test_no_loss_hears_of_a_later_word_or_of_padding(lengths, side, seed):
    ids, is_real = batch(lengths, side, seed, more=1)
    T = ids.shape[1]
    for row in range(len(ids)):
        for t in np.flatnonzero(is_real[row, :-1]):
            x = Tensor(MODEL.embed(ids).data, requires_grad=True)
            log_p = MODEL.logits(MODEL.hidden(x, is_real))[row, t]
            (np.log(np.sum(np.exp(log_p))) - log_p[ids[row, t + 1]]).backward()
            heard = np.abs(x.grad).max(axis=-1)
            may = np.zeros(ids.shape, bool)
            may[row] = is_real[row] & (np.arange(T) <= t)
            assert (heard[~may] == 0).all() and (heard[may] > 1e-9).all()


@given(lengths, st.sampled_from(["left", "right", "anywhere"]), st.integers(0, 2), seeds)
def test_padding_anywhere_changes_nothing_for_the_words(lengths, side, more, seed):
    ids, is_real = batch(lengths, side, seed, more)
    together = MODEL(ids, is_real).data
    for row in range(len(ids)):
        alone = MODEL(ids[row, is_real[row]][None]).data[0]
        np.testing.assert_allclose(together[row, is_real[row]], alone, atol=1e-12)


@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=3),
    st.sampled_from(["left", "right"]),
    st.integers(0, 2),
    seeds,
)
def test_the_loss_is_the_mean_over_what_each_text_alone_loses(lengths, side, more, seed):
    ids, is_real = batch(lengths, side, seed, more)
    alone = [
        losses(MODEL, None, ids[row, is_real[row]][None])["lm"].item() for row in range(len(ids))
    ]
    expected = np.average(alone, weights=np.array(lengths) - 1)
    assert losses(MODEL, None, ids, is_real)["lm"].item() == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------------- in pieces
@given(
    lengths,
    st.sampled_from(["left", "right", "anywhere"]),
    st.lists(st.integers(1, 3), min_size=6, max_size=6),
    seeds,
)
def test_a_text_read_in_pieces_with_caches_is_the_text_read_at_once(lengths, side, pieces, seed):
    ids, is_real = batch(lengths, side, seed)
    caches, rows = [Cache() for _ in MODEL.blocks], []
    cuts = [0, *(cut for cut in np.cumsum(pieces) if cut < ids.shape[1]), ids.shape[1]]
    for start, stop in zip(cuts, cuts[1:], strict=False):
        rows.append(MODEL.hidden(MODEL.embed(ids[:, start:stop]), is_real[:, :stop], caches).data)
        assert {cache.length for cache in caches} == {stop}
    at_once = MODEL.hidden(MODEL.embed(ids), is_real).data
    np.testing.assert_allclose(np.concatenate(rows, axis=1)[is_real], at_once[is_real], atol=1e-12)


@given(st.integers(2, 8), seeds)
def test_the_teachers_log_probability_is_the_sum_over_steps_with_a_cache(T, seed):
    ids = np.random.default_rng(seed).integers(0, V, (2, T))
    taught = -losses(MODEL, None, ids)["lm"].item() * 2 * (T - 1)
    caches, stepped = [Cache() for _ in MODEL.blocks], 0.0
    for t in range(T - 1):
        x = MODEL.hidden(MODEL.embed(ids[:, t : t + 1]), np.ones((2, t + 1), bool), caches)
        stepped += log_softmax(MODEL.logits(x[:, -1]).data)[[0, 1], ids[:, t + 1]].sum()
    assert stepped == pytest.approx(taught, abs=1e-10)


# ---------------------------------------------------------------------- going on
def by_reading_all_again(ids, soft, n, end):
    """The greedy continuation of one text, by the definition: the whole text is read anew for each token."""
    text = []
    while len(text) < n:
        x = MODEL.embed(np.array([[*ids, *text]])).data
        x = x if soft is None else np.concatenate([soft[None], x], axis=1)
        text.append(int(MODEL.logits(MODEL.hidden(x)).data[0, -1].argmax()))
        if text[-1] == end:
            return text[:-1]
    return text


@given(lengths, st.sampled_from(["left", "right"]), st.booleans(), st.integers(1, 5), seeds)
def test_greedy_with_caches_is_greedy_with_the_whole_text_read_anew(lengths, side, softly, n, seed):
    ids, is_real = batch(lengths, side, seed)
    soft = soft_words(len(ids), seed) if softly else None
    # An end that the first text comes to, so that ending early is met.
    end = (by_reading_all_again(ids[0, is_real[0]], None if soft is None else soft[0], n, -1))[-1]
    expected = [
        by_reading_all_again(ids[row, is_real[row]], None if soft is None else soft[row], n, end)
        for row in range(len(ids))
    ]
    assert MODEL.generate(ids, is_real, embeddings=soft, max_new_tokens=n, end=end) == expected


@given(lengths, st.sampled_from(["left", "right", "anywhere"]), st.booleans(), searches, seeds)
def test_padded_prompts_go_on_as_each_does_alone(lengths, side, softly, search, seed):
    ids, is_real = batch(lengths, side, seed)
    soft = soft_words(len(ids), seed) if softly else None
    together = MODEL.generate(ids, is_real, embeddings=soft, max_new_tokens=4, **search)
    for row, found in enumerate(together):
        own = None if soft is None else soft[row : row + 1]
        assert MODEL.generate(
            ids[row, is_real[row]][None], embeddings=own, max_new_tokens=4, **search
        ) == [found]


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 4), st.sampled_from([1, 3]), seeds)
def test_new_tokens_are_counted_without_prompt_and_soft_words(T, Q, n, beams, seed):
    ids = np.random.default_rng(seed).integers(0, V, (2, T))
    found = MODEL.generate(
        ids, embeddings=soft_words(2, seed, Q), max_new_tokens=n, min_new_tokens=n, beams=beams
    )
    assert [len(text) for text in found] == [n, n]


@pytest.mark.parametrize("most", [None, 1000])
def test_a_text_is_no_longer_than_the_context(most):
    ids = np.full((1, 4), 2)
    (found,) = MODEL.generate(ids, max_new_tokens=most, min_new_tokens=CONTEXT - 4)
    assert len(found) == CONTEXT - 4


@given(lengths, seeds)
def test_a_nucleus_near_zero_is_greedy_and_one_rng_gives_one_text(lengths, seed):
    ids, is_real = batch(lengths, "right", seed)

    def draw(top_p, seed):
        return MODEL.generate(
            ids, is_real, max_new_tokens=5, top_p=top_p, rng=np.random.default_rng(seed)
        )

    assert draw(1e-9, seed) == MODEL.generate(ids, is_real, max_new_tokens=5)
    assert draw(0.9, seed) == draw(0.9, seed)


def test_another_end_may_be_named():
    ids = np.array([[2, 7]])
    first, second = MODEL.generate(ids, max_new_tokens=2, min_new_tokens=2)[0]
    assert MODEL.generate(ids, max_new_tokens=2, end=first) == [[]]
    assert MODEL.generate(ids, max_new_tokens=2, end=second) == [[first]] or first == second


@pytest.mark.parametrize("beams", [1, 3])
def test_every_backend_says_the_same(beams, backend):
    ids, is_real = batch([3, 1], "right", 4)
    model = OPT(MODEL.config, np.random.default_rng(0))
    model.load_state_dict(MODEL.state_dict())
    expected = model.generate(ids, is_real, max_new_tokens=4, beams=beams)
    loss = losses(model, None, ids, is_real)["lm"].item()
    model.to(backend)
    assert model.generate(ids, is_real, max_new_tokens=4, beams=beams) == expected
    assert losses(model, None, ids, is_real)["lm"].item() == pytest.approx(loss, rel=1e-5)


def test_generating_records_no_graph(monkeypatch):
    read, hidden = [], MODEL.hidden
    monkeypatch.setattr(OPT, "hidden", lambda self, *given: read.append(hidden(*given)) or read[-1])
    MODEL.generate(
        np.array([[2]]),
        embeddings=Tensor(soft_words(1, 0), requires_grad=True),
        max_new_tokens=3,
        min_new_tokens=3,
    )
    assert len(read) == 3 and not any(x.requires_grad for x in read)


# ---------------------------------------------------------------------- learning
def test_every_parameter_learns_but_what_no_softmax_sees():
    model = OPT(MODEL.config, np.random.default_rng(3)).astype("float64")
    ids, is_real = batch([6, 4], "left", 0)
    losses(model, None, ids, is_real)["lm"].backward()
    for name, parameter in model.named_parameters():
        size = np.abs(parameter.grad)
        if name.endswith("qkv.bias"):
            query, key, value = np.split(size, 3)
            assert (
                key.max() < 1e-12 < query.min() and value.min() > 1e-12
            )  # a softmax does not see what is added to all of its scores
        elif name == "positions":  # of the longest text's six tokens the last is only a target
            assert (
                (size[OFFSET : OFFSET + 5].min(axis=1) > 0).all()
                and not size[:OFFSET].any()
                and not size[OFFSET + 5 :].any()
            )
        elif (
            name == "token_embedding.weight"
        ):  # every word might have been said: the table is the head, too
            assert (size.max(axis=1) > 0).all()
        else:
            assert size.any(), name


def test_weights_begin_at_a_fiftieth_and_biases_at_zero():
    model = OPT(OPTConfig.tiny(width=64), np.random.default_rng(0))
    for name, parameter in model.named_parameters():
        array = parameter.data
        if name.endswith(".weight") and "norm" not in name or name == "positions":
            assert abs(array.mean()) < 5 * 0.02 / np.sqrt(array.size), name
            assert array.std() == pytest.approx(0.02, rel=5 / np.sqrt(2 * array.size)), name
        else:
            assert (array == (1 if name.endswith(".weight") else 0)).all(), name


#: Parameters of the released models (their files' arrays, the head's second copy not counted).
RELEASED = {
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_models_have_as_many_parameters(name, monkeypatch):
    for module in (
        tinymm.layers.basic,
        tinymm.models.opt,
    ):  # no gigabyte is allocated: one zero is shown many times
        monkeypatch.setattr(
            module, "normal", lambda rng, shape, std: np.broadcast_to(np.float32(0), shape)
        )
    config = OPTConfig.paper(name)
    assert OPT(config, np.random.default_rng(0)).count() == RELEASED[name]
    assert config.activation == "relu" and config.context == 2048 and config.vocabulary == 50272


# ---------------------------------------------------------------------- what is refused
def hidden(T, is_real=None, past=0):
    caches = [Cache() for _ in MODEL.blocks]
    if past:
        MODEL.hidden(np.zeros((2, past, D)), None, caches)
    return MODEL.hidden(np.zeros((2, T, D)), is_real, caches)


one, ids = np.array([[2]]), np.array([[2, 5], [2, 6]])
REFUSED = {
    "context": (lambda: MODEL(np.ones((1, 15), int)), ShapeError, "1 to 14 tokens (the context) and 15 came; cut the text"),
    "context behind soft words": (lambda: hidden(15), ShapeError, "at most 14 tokens (the context), and 15 came; shorten the text"),
    "context behind caches": (lambda: hidden(2, past=13), ShapeError, "at most 14 tokens (the context), and 15 came"),
    "no row left": (lambda: MODEL.generate(np.ones((1, 14), int)), ShapeError, "14 of 14 positions came; shorten it"),
    "no row left behind soft words": (
        lambda: MODEL.generate(one, embeddings=soft_words(1, 0, Q=13)), ShapeError, "14 of 14 positions came; shorten it",
    ),
    "is_real of the new rows only": (
        lambda: hidden(2, np.ones((2, 2), bool), past=3), ShapeError, "the 3 remembered rows and the 2 new ones, (2, 5), and (2, 2) came; lengthen",
    ),
    "numbers for is_real": (lambda: MODEL(ids, np.ones((2, 2), int)), DtypeError, "and int64 came; write ids != padding_id"),
    "numbers for is_real of prompts": (lambda: MODEL.generate(ids, np.ones((2, 2), int)), DtypeError, "and int64 came; write ids != padding_id"),
    "is_real of others": (lambda: MODEL.generate(ids, np.ones((2, 3), bool)), ShapeError, "of one shape, and (2, 2) and (2, 3) came"),
    "a prompt of padding": (lambda: MODEL.generate(ids, np.array([[True, True], [False, False]])), DataError, "row 1 of 2 has none; begin it with 2"),
    "an id beyond the vocabulary": (lambda: MODEL(np.array([[2, 50]])), DataError, "[0, 50) and 50 came"),
    "an id below 0": (lambda: MODEL(np.array([[2, -1]])), DataError, "[0, 50) and -1 came"),
    "one text": (lambda: MODEL(np.array([2, 5])), ShapeError, "ids are (B, T) and (2,) came; for one text write ids[None]"),
    "one prompt": (lambda: MODEL.generate(np.array([2, 5])), ShapeError, "ids are (B, T) and (2,) came; for one text write ids[None]"),
    "no token": (lambda: MODEL.generate(ids, max_new_tokens=0), UsageError, "max_new_tokens 0, min_new_tokens 0, beams 1 came"),
    "no beam": (lambda: MODEL.generate(ids, beams=0), UsageError, "beams 0 came; correct them"),
    "nucleus without rng": (lambda: MODEL.generate(ids, top_p=0.9), UsageError, "needs rng= and one beam, and rng None"),
    "opt-350m": (lambda: OPTConfig.paper("opt-350m"), UsageError, "(opt-350m is built differently), and 'opt-350m' came; choose one"),
    "an end beyond the vocabulary": (lambda: OPTConfig.tiny(end=50), UsageError, "end is an id below the vocabulary 50, and 50 came"),
    "heads": (lambda: OPT(OPTConfig.tiny(heads=5), np.random.default_rng(0)), ShapeError, "32 over 5 heads came"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, said = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert said in str(caught.value)
