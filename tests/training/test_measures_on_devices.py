"""What is measured and drawn of a model is the same wherever its weights live: host arrays are brought to them."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_matching_measures import Spelled
from tiny import randomized
from tiny_towers import batch, model_of

from tinymm.autodiff import no_grad
from tinymm.data.batches import Batch, PairSet, Swaps
from tinymm.data.text import split_words
from tinymm.losses import language_loss
from tinymm.models.bert import BertConfig
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.training import evaluate_matching as measures
from tinymm.viz.attention.grounding import ground
from tinymm.workflows.runs import figures

IMAGES, IDS, IS_REAL = batch(6)
WORDS = [" ".join(map(str, row[real])) for row, real in zip(IDS, IS_REAL, strict=True)]
PAIRS = PairSet(IMAGES, WORDS, np.arange(6))
KINDS = ["albef", "blip", "stage 1"]


def built(kind):
    if kind == "stage 1":
        return (
            randomized(BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0)))
            .astype("float64")
            .eval()
        )
    if kind == "stage 2":
        return (
            randomized(BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0)))
            .astype("float64")
            .eval()
        )
    return model_of(kind).eval()


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        (close if isinstance(value, dict) else np.testing.assert_allclose)(found[name], value)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_the_same_wherever_weights_live(kind, backend):
    there = built(kind).to(backend)
    close(
        measures.matching(there, PAIRS, Spelled()), measures.matching(built(kind), PAIRS, Spelled())
    )
    swapped = {"order": Swaps(IMAGES[:3], WORDS[:3], WORDS[3:])}
    assert measures.swaps(there, swapped, Spelled()) == measures.swaps(
        built(kind), swapped, Spelled()
    )


@pytest.mark.parametrize("kind", ["blip", "stage 1", "stage 2"])
@pytest.mark.parametrize("options", [{}, {"beams": 2}, {"ids": np.array([[5, 6]] * 6)}])
def test_captions_are_the_same_wherever_weights_live(kind, options, backend):
    if kind == "stage 1" and "ids" in options:
        return  # it takes no prompt
    written = measures.write_captions(built(kind).to(backend), IMAGES, Spelled(), **options)
    assert written == measures.write_captions(built(kind), IMAGES, Spelled(), **options)


@pytest.mark.parametrize("kind", ["albef", "blip"])
def test_pictures_are_drawn_wherever_weights_live(kind, backend):
    there, here = built(kind).to(backend), built(kind)
    found, expected = (
        ground(model, IMAGES[0], IDS[0], rng=np.random.default_rng(0)) for model in (there, here)
    )
    close(found.heats, expected.heats)
    some = Batch(IMAGES, IDS, IS_REAL, np.arange(6), tuple(WORDS))
    assert figures._queue(there, some).alt == figures._queue(here, some).alt


def test_where_queries_look_is_the_same_wherever_weights_live(backend):
    tokens = measures.image_tokens(built("stage 1"), IMAGES)
    found, expected = (
        figures.query_attention(model, tokens)
        for model in (built("stage 1").to(backend), built("stage 1"))
    )
    np.testing.assert_allclose(found[0], expected[0])


@pytest.mark.parametrize("kind", ["blip", "stage 1"])
def test_perplexity_counts_each_token_once_however_texts_are_cut_into_batches(kind, monkeypatch):
    model = built(kind)
    tokens = measures.image_tokens(model, IMAGES)
    with no_grad():
        whole = np.exp(language_loss(model.lm_logits(tokens, IDS, IS_REAL), IDS, IS_REAL).item())
    seen, words = [], model.lm_logits
    monkeypatch.setattr(measures, "_BATCH", 4)  # the rest is half a batch
    model.lm_logits = lambda tokens, *rest: seen.append(len(tokens)) or words(tokens, *rest)
    assert measures.perplexity(model, tokens, IDS, IS_REAL) == (
        pytest.approx(whole, rel=1e-9),
        50.0,
    ) and seen == [4, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_validation_asks_for_no_words(kind):
    model = built(kind)
    model.lm_logits = model.mlm_logits = model.generate = None
    found = measures.matching(model, PAIRS, Spelled(), thorough=False)
    assert not [
        name
        for name in (*found, *found["chance"])
        if name.startswith(("mlm", "lm", "itg", "itm_reranked"))
    ]


LONG = " ".join(f"w{i}" for i in range(30))


@pytest.mark.parametrize(
    "caption, drawn",
    [
        (LONG, [f"w{i}" for i in range(12)]),
        ("one", ["one"]),
        ("[a] [] dog", ["a", "·", "dog"]),
        ("!", ["no words"]),
    ],
)
def test_of_a_long_caption_the_first_words_are_drawn(caption, drawn):
    model = model_of(
        "blip", text=BertConfig.tiny(encoder_width=24, context=20)
    )  # the text is cut at 18 words, the picture has room for 12
    ids = np.array([[1, *range(5, 5 + min(len(split_words(caption)), 18)), 2]])

    class Words:
        tokens = staticmethod(split_words)

        def __call__(self, texts):
            return ids, np.ones_like(ids, bool)

    source = SimpleNamespace(tokenizer=Words())
    pairs = PairSet(IMAGES[:1], [caption], np.arange(1))
    drawing = figures._words(model, source, pairs, np.zeros((1, 16, 16, 3)))
    assert [line.split("“")[1].split("”")[0] for line in drawing.alt.splitlines()[1:]] == drawn
