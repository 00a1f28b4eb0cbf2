"""Decoding, on models small enough to try every text: what greedy, beams and nucleus promise, and that caches follow their beams."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinymm.arrays.errors import UsageError
from tinymm.layers import Cache
from tinymm.models.decoding import _beam_search, generate, log_softmax, sample_top_p

END = 0
seeds = st.integers(0, 9999)
vocabularies = st.integers(2, 5)
prompts = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=1, max_size=3)
limits = st.integers(1, 4).flatmap(lambda most: st.tuples(st.integers(0, most), st.just(most)))
penalties = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])


class Remembering:
    """A model whose logits are a random function of all that its cache has seen, so that a cache of another text shows."""

    def __init__(self, vocabulary, seed):
        self.vocabulary, self.seed, self.steps = vocabulary, seed, 0

    def logits(self, history):
        return 2 * np.random.default_rng([self.seed, *history]).standard_normal(self.vocabulary)

    def advance(self, ids, caches):
        self.steps += 1
        seen, _ = caches[0].extend(ids[:, None, :, None], ids[:, None, :, None])
        return np.stack([self.logits(history) for history in seen[:, 0, :, 0]])

    def write(self, texts, *, search=generate, **options):
        numbers = np.array(texts)[:, None, :, None]
        first = np.stack([self.logits(text) for text in texts])
        return search(first, [Cache(numbers, numbers)], self.advance, **options)

    def log_p(self, prompt, text, least=0):
        """The log-probability of each of a text's tokens; an end that comes too early has none."""
        rows = [
            log_softmax(self.logits([*prompt, *text[:n]])[None])[0, token]
            for n, token in enumerate(text)
        ]
        return [
            -np.inf if token == END and n < least else row
            for n, (token, row) in enumerate(zip(text, rows, strict=True))
        ]


def greedy(model, prompt, least, most):
    """The likeliest token after each other, by the definition."""
    text = []
    while len(text) < most:
        logits = model.logits([*prompt, *text])
        if len(text) < least:
            logits[END] = -np.inf
        if logits.argmax() == END:
            break
        text.append(int(logits.argmax()))
    return text


def every_text(vocabulary, most):
    """All texts of at most `most` tokens: those that end, and those that were cut off."""
    for n in range(most):
        for words in itertools.product(range(1, vocabulary), repeat=n):
            yield [*words, END]
    yield from map(list, itertools.product(range(1, vocabulary), repeat=most))


def beam_search(model, prompt, least, most, beams, penalty):
    """Beam search by its definition, with whole texts for beams and no cache."""
    running, finished = [(0.0, [])], []
    for n in range(1, most + 1):
        candidates = [
            (score + p, [*text, t])
            for score, text in running
            for t, p in enumerate(log_softmax(model.logits([*prompt, *text])[None])[0])
        ]
        candidates = [pair for pair in candidates if n > least or pair[1][-1] != END]
        candidates = sorted(candidates, reverse=True)[: 2 * beams]
        finished += [
            (score / n**penalty, text)
            for score, text in candidates[:beams]
            if text[-1] == END or n == most
        ]
        finished = sorted(finished, reverse=True)[:beams]
        running = [pair for pair in candidates if pair[1][-1] != END][:beams]
        if len(finished) == beams and finished[-1][0] >= running[0][0] / n**penalty:
            break
    return [token for token in finished[0][1] if token != END]


@given(vocabularies, seeds, prompts, limits)
def test_greedy_takes_the_likeliest_token_after_each_other_whatever_else_is_in_the_batch(
    vocabulary, seed, texts, limit
):
    model, (least, most) = Remembering(vocabulary, seed), limit
    found = model.write(texts, end=END, min_new_tokens=least, max_new_tokens=most)
    assert found == [greedy(model, text, least, most) for text in texts]
    # A text of n tokens is n - 1 steps behind its first logits, and one more if it ends before it must.
    assert model.steps == max(len(text) if len(text) < most else most - 1 for text in found)


@given(vocabularies, seeds, prompts, limits, penalties)
def test_one_beam_is_greedy(vocabulary, seed, texts, limit, penalty):
    model, (least, most) = Remembering(vocabulary, seed), limit
    options = {"end": END, "min_new_tokens": least, "max_new_tokens": most}
    assert model.write(texts, **options, beams=1, length_penalty=penalty) == model.write(
        texts, **options
    )
    narrow = model.write(
        texts, search=lambda *given, **_: _beam_search(*given, END, most, least, 1, penalty)
    )
    assert narrow == model.write(texts, **options)


@given(st.integers(2, 3), seeds, prompts, limits, penalties)
def test_beams_for_all_texts_find_the_best_of_all_texts(vocabulary, seed, texts, limit, penalty):
    model, (least, most) = Remembering(vocabulary, seed), limit
    found = model.write(
        texts, end=END, min_new_tokens=least, max_new_tokens=most, beams=max(2, vocabulary**most), length_penalty=penalty
    )  # fmt: skip
    for prompt, text in zip(texts, found, strict=True):

        def worth(text, prompt=prompt):
            return sum(model.log_p(prompt, text, least)) / len(text) ** penalty

        best = max(every_text(vocabulary, most), key=worth)
        assert text == [token for token in best if token != END]


@settings(max_examples=60)
@given(
    st.integers(2, 8),
    seeds,
    prompts,
    st.tuples(st.integers(0, 2), st.integers(3, 7)),
    st.integers(2, 4),
    penalties,
)
def test_a_few_beams_find_what_the_definition_finds_for_each_text_alone(
    vocabulary, seed, texts, limit, beams, penalty
):
    model, (least, most) = Remembering(vocabulary, seed), limit
    found = model.write(
        texts,
        end=END,
        min_new_tokens=least,
        max_new_tokens=most,
        beams=beams,
        length_penalty=penalty,
    )
    assert found == [beam_search(model, text, least, most, beams, penalty) for text in texts]
    assert all(least <= len(text) <= most and END not in text for text in found)


def test_two_beams_see_past_a_likely_first_step():
    # After 1, the likelier first token, nothing is likely; after 2 the end is nearly sure: 0.6 · 0.25 against 0.4 · 0.97.
    p = np.array([[0.01, 0.59, 0.40, 0.0], [0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.25] * 4])
    with np.errstate(divide="ignore"):
        log_p = np.log(p)

    def write(beams):
        return generate(
            log_p[:1],
            [],
            lambda ids, caches: log_p[ids[:, 0]],
            end=END,
            max_new_tokens=2,
            beams=beams,
            length_penalty=0.0,
        )

    assert write(1) == [[1]] and write(2) == [[2]]


def test_a_larger_length_penalty_favors_longer_texts():
    p = np.array(
        [[0.5, 0.5 - 1e-6], [0.1, 0.9]]
    )  # end at once with 0.5, or go on at 0.5 · 0.9 · 0.9 …

    def write(penalty):
        log_p = np.log(p)
        return generate(
            log_p[:1],
            [],
            lambda ids, caches: log_p[ids[:, 0]],
            end=END,
            max_new_tokens=4,
            beams=4,
            length_penalty=penalty,
        )

    assert write(0.0) == [[]] and write(1.0) == [[1, 1, 1, 1]]


# ---------------------------------------------------------------------- drawing
@given(st.integers(2, 8), st.floats(0.01, 1.0), seeds)
def test_a_draw_is_from_the_smallest_set_that_reaches_the_nucleus_in_proportion(
    vocabulary, top_p, seed
):
    logits, draws = 2 * np.random.default_rng(seed).standard_normal(vocabulary), 4000
    p = np.exp(log_softmax(logits[None])[0])
    falling = np.sort(p)[::-1]
    reach = np.cumsum(falling)
    assume(np.abs(reach[:-1] - top_p).min() > 1e-9)  # on the boundary rounding decides
    size = 1 + int(np.sum(reach[:-1] < top_p))
    inside = p >= falling[size - 1]
    expected = np.where(inside, p, 0) / p[inside].sum()
    drawn = sample_top_p(np.tile(logits, (draws, 1)), top_p, np.random.default_rng(seed))
    share = np.bincount(drawn, minlength=vocabulary) / draws
    assert (share[~inside] == 0).all()
    assert (np.abs(share - expected) < 6 * np.sqrt(expected * (1 - expected) / draws) + 1e-3).all()


@given(vocabularies, seeds, prompts, limits)
def test_a_nucleus_near_zero_and_a_temperature_near_zero_are_greedy(vocabulary, seed, texts, limit):
    model, (least, most) = Remembering(vocabulary, seed), limit
    options = {"end": END, "min_new_tokens": least, "max_new_tokens": most}
    likeliest = model.write(texts, **options)
    assert model.write(texts, **options, top_p=1e-12, rng=np.random.default_rng(seed)) == likeliest
    assert (
        model.write(texts, **options, top_p=1.0, temperature=1e-6, rng=np.random.default_rng(seed))
        == likeliest
    )


@given(seeds, prompts, st.floats(0.2, 5), st.floats(0.1, 1))
def test_one_rng_gives_one_text_and_the_temperature_divides_the_logits(
    seed, texts, temperature, top_p
):
    model, warmer = Remembering(5, seed), Remembering(5, seed)
    logits = warmer.logits
    warmer.logits = lambda history: logits(history) / temperature
    options = {"end": END, "max_new_tokens": 4, "top_p": top_p}
    found = model.write(texts, **options, temperature=temperature, rng=np.random.default_rng(seed))
    assert found == model.write(
        texts, **options, temperature=temperature, rng=np.random.default_rng(seed)
    )
    assert found == warmer.write(texts, **options, rng=np.random.default_rng(seed))


def test_another_rng_gives_another_text():
    model = Remembering(5, 0)
    found = {
        str(
            model.write(
                [[1, 2]], end=END, max_new_tokens=4, top_p=1.0, rng=np.random.default_rng(seed)
            )
        )
        for seed in range(20)
    }
    assert len(found) > 5


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0, min_new_tokens 0, beams 1 came; correct them"),
        ({"min_new_tokens": 4}, "max_new_tokens 3, min_new_tokens 4, beams 1 came"),
        ({"min_new_tokens": -1}, "max_new_tokens 3, min_new_tokens -1, beams 1 came"),
        ({"beams": 0}, "at least 1 beam, and max_new_tokens 3, min_new_tokens 0, beams 0 came"),
        (
            {"top_p": 0.5},
            "top_p 0.5 draws tokens: it lies in (0, 1], needs rng= and one beam, and rng None with 1 beams came",
        ),
        ({"top_p": 0.0, "rng": 1}, "top_p 0.0 draws tokens: it lies in (0, 1]"),
        ({"top_p": 1.5, "rng": 1}, "top_p 1.5 draws tokens: it lies in (0, 1]"),
        (
            {"top_p": 0.5, "rng": 1, "beams": 2},
            "needs rng= and one beam, and rng Generator(PCG64) with 2 beams came",
        ),
        ({"temperature": 0.0}, "a temperature is above 0 and 0.0 came; near 0 is greedy"),
        ({"temperature": float("nan")}, "a temperature is above 0 and nan came"),
    ],
)
def test_refused(options, said):
    options = (
        {"max_new_tokens": 3}
        | options
        | ({"rng": np.random.default_rng(1)} if "rng" in options else {})
    )
    with pytest.raises(UsageError) as caught:
        Remembering(3, 0).write([[1, 2]], end=END, **options)
    assert said in str(caught.value)
