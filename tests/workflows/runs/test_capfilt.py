"""CapFilt: what comes out is what was there or what was written, and passed the filter; and what it was worth, where the truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinySource

from tinymm import Tensor
from tinymm.arrays.errors import UsageError
from tinymm.data.batches import NoisySource
from tinymm.data.text import DEC, ENC, WordTokenizer
from tinymm.tasks import blip as blips
from tinymm.training.loop import TrainConfig
from tinymm.workflows.runs import capfilt
from tinymm.workflows.runs.capfilt import (
    Judged,
    bootstrapped,
    clean,
    fine_tuned,
    judge,
    quality,
    tuning,
)
from tinymm.workflows.studies import ablate_blip

WORDS = WordTokenizer(tuple("abcdefgh"), context=6).with_frame(DEC, ENC)
QUIET = {"say": lambda _: None}


class Web(NoisySource):
    """Pictures that are their numbers, with captions; `people` have looked at the first of them, and what is true of one is known."""

    tokenizer, texts = WORDS, ()

    def __init__(self, texts, people=0, true=None):
        self.texts, self.people = list(texts), people
        self.true = true

    def __len__(self):
        return len(self.texts)

    def batch(self, indices, rng):
        raise AssertionError("nothing here is trained on")

    validation = captions = None  # nobody asks

    def is_true(self, picture, caption):
        return None if self.true is None else caption in self.true[picture]

    def web_pictures(self):
        return np.arange(self.people, len(self.texts))

    def images(self, pictures):
        return np.asarray(pictures, np.float32).reshape(-1, 1, 1, 1)

    def with_captions(self, texts):
        return Web(texts, self.people)


class Scripted:
    """A captioner and filter that writes `said[picture]` and thinks `trust[picture, caption]` likely."""

    def __init__(self, said, trust):
        self.said, self.trust, self.drawn, self.looked, self.asked = said, trust, [], 0, []

    def eval(self):
        return self

    def parameters(self):
        return []

    def generate(self, images, **options):
        self.drawn.append(
            (images[:, 0, 0, 0].astype(int).tolist(), options["top_p"], options["rng"].random())
        )
        return [WORDS([self.said[i]])[0][0][1:-1].tolist() for i in self.drawn[-1][0]]

    def image_tokens(self, images):
        self.looked += len(images)
        return images[:, 0]

    def itm_logits(self, tokens, ids, is_real):
        self.asked += list(
            zip(tokens[:, 0, 0].astype(int).tolist(), WORDS.decode(ids), strict=True)
        )
        p = np.array([self.trust[pair] for pair in self.asked[-len(ids) :]])
        return Tensor(np.stack([np.log(1 - p), np.log(p)], axis=1))


caption = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" ".join)


@st.composite
def webs(draw):
    """Return a source, what the captioner writes of each picture, and the filter's trust in each pair."""
    texts = [tuple(draw(st.lists(caption, max_size=3))) for _ in range(draw(st.integers(1, 7)))]
    said = [draw(st.one_of(caption, st.just(""), st.sampled_from(own or ("a",)))) for own in texts]
    trust = {
        (i, text): draw(st.sampled_from([0.1, 0.5, 0.7]))
        for i, own in enumerate(texts)
        for text in (*own, said[i])
    }
    return Web(texts, people=draw(st.integers(0, len(texts)))), said, trust


# ---------------------------------------------------------------------- judged, and left
@given(webs(), st.sampled_from([2, 3, 256]), st.booleans())
def test_no_pair_is_invented_none_is_lost_and_none_comes_twice(web, at_once, written):
    source, said, trust = web
    before = list(source.texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capfilt, "_BATCH", at_once)
        judged = judge(Scripted(said, trust), Scripted(said, trust), source, 0, **QUIET)
    left = bootstrapped(source, judged, written=written).texts
    assert source.texts == before and left[: source.people] == before[: source.people], (
        "people's pairs stay as they are"
    )
    for i in range(source.people, len(before)):
        candidates = dict.fromkeys([*before[i], *([said[i]] if written and said[i] else [])])
        assert left[i] == tuple(text for text in candidates if trust[i, text] > 0.5)


@given(webs(), st.sampled_from([2, 3, 256]))
def test_every_caption_of_every_web_picture_is_judged_once_and_by_the_filter(web, at_once):
    source, said, trust = web
    captioner, filter_ = Scripted(said, {}), Scripted([], trust)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capfilt, "_BATCH", at_once)
        judged = judge(captioner, filter_, source, 0, **QUIET)
    asked = [(i, text, False) for i in source.web_pictures() for text in source.texts[i]]
    asked += [
        (i, said[i], True) for i in source.web_pictures() if said[i]
    ]  # an empty caption is none
    assert sorted((item.picture, item.caption, item.written) for item in judged) == sorted(asked)
    for item in judged:
        assert item.probability == pytest.approx(
            trust[item.picture, item.caption]
        ) and item.kept == (item.probability > 0.5)
    assert [
        i for pictures, *_ in captioner.drawn for i in pictures
    ] == source.web_pictures().tolist()
    assert not captioner.asked and not captioner.looked
    assert sorted(filter_.asked) == sorted((picture, text) for picture, text, _ in asked)
    assert {top_p for _, top_p, _ in captioner.drawn} <= {capfilt.TOP_P}


def test_the_captioner_s_draws_are_named_by_the_seed_and_differ_from_part_to_part(monkeypatch):
    monkeypatch.setattr(capfilt, "_BATCH", 2)
    draws = []
    for seed in (3, 3, 4):
        captioner = Scripted(["a"] * 6, {(i, "a"): 0.9 for i in range(6)})
        judge(captioner, captioner, Web([("a",)] * 6), seed, **QUIET)
        draws.append([number for *_, number in captioner.drawn])
    assert draws[0] == draws[1] and len({*draws[0], *draws[2]}) == 6


def test_what_was_judged_is_only_of_web_pictures_and_one_without_a_caption_has_none_left():
    source = Web([("a",), ("b",), ("c", "d")], people=1)
    own = [Judged(1, "b", False, 0.2), Judged(2, "c", False, 0.9), Judged(2, "d", False, 0.1)]
    judged = [*own, Judged(2, "c", True, 0.9), Judged(1, "e", True, 0.5)]
    judged += [Judged(1, "f", True, 0.8)]
    assert bootstrapped(source, judged).texts == [("a",), ("f",), ("c",)]
    assert bootstrapped(source, judged, written=False).texts == [("a",), (), ("c",)]


# ---------------------------------------------------------------------- what it was worth
TRUE = [{"a"}, {"a", "b"}, {"c"}, {"d"}]
JUDGED = [
    Judged(0, "a", False, 0.9), Judged(1, "c", False, 0.8), Judged(2, "c", False, 0.1), Judged(3, "a", False, 0.2), Judged(3, "d", False, 0.6),
    Judged(0, "a", True, 0.9), Judged(1, "b", True, 0.7), Judged(2, "a", True, 0.6), Judged(3, "d", True, 0.4),
]  # fmt: skip


def test_quality_is_counted_against_the_truth():
    found = quality(Web([()] * 4, true=TRUE), JUDGED)
    assert found == {
        "web_captions": 5, "web_kept": 3 / 5, "web_true": 3 / 5, "web_precision": pytest.approx(2 / 3), "web_recall": pytest.approx(2 / 3),
        "written_captions": 4, "written_kept": 3 / 4, "written_true": 3 / 4, "written_precision": pytest.approx(2 / 3),
        "written_recall": pytest.approx(2 / 3),
    }  # fmt: skip
    assert quality(Web([()] * 4), JUDGED) == {
        name: found[name] for name in found if name.endswith(("captions", "kept"))
    }


@pytest.mark.parametrize(
    "judged, expected",
    [
        ([Judged(0, "a", False, 0.1), Judged(0, "a", True, 0.1)], (0, 1, 0, 0)),  # nothing is kept
        ([Judged(0, "b", False, 0.9), Judged(0, "b", True, 0.9)], (1, 0, 0, 0)),  # nothing is true
    ],
)
def test_quality_of_nothing_is_a_number(judged, expected):
    found = quality(Web([()], true=TRUE), judged)
    for name in ("web", "written"):
        assert (
            tuple(found[f"{name}_{part}"] for part in ("kept", "true", "precision", "recall"))
            == expected
        )
    some = quality(Web([()], true=TRUE), [item for item in judged if item.written])
    assert some == {name: value for name, value in found.items() if name.startswith("written")}, (
        "of nothing there is no share"
    )


def test_a_captioner_that_says_nothing_leaves_the_captions_that_were_there(monkeypatch):
    model, lines = Scripted([""] * 3, {(0, "a"): 0.9, (1, "b"): 0.1}), []
    monkeypatch.setattr(
        capfilt, "_BATCH", 2
    )  # of the second part, which is picture 2, there is nothing to ask
    judged, found = clean(model, Web([("a",), ("b",), ()], true=TRUE), TrainConfig(1), lines.append)
    assert [item.caption for item in judged if item.kept] == ["a"] and not [
        name for name in found if name.startswith("written")
    ]
    assert lines[-1] == "CapFilt: no written captions came"


def test_where_nothing_passes_it_says_so():
    model = Scripted(["c", "c"], dict.fromkeys([(0, "a"), (0, "c"), (1, "b"), (1, "c")], 0.5))
    with pytest.raises(
        UsageError,
        match="CapFilt trains on captions that pass the filter, and none of 4 does; train the first model for longer",
    ):
        clean(model, Web([("a",), ("b",)]), TrainConfig(1), **QUIET)


def test_without_people_the_model_itself_writes_and_judges():
    model, lines = (
        Scripted(["b", "d"], {(0, "a"): 0.9, (0, "b"): 0.2, (1, "c"): 0.1, (1, "d"): 0.8}),
        [],
    )
    judged, found = clean(model, Web([("a",), ("c",)], true=TRUE), TrainConfig(1), lines.append)
    assert [(item.caption, item.kept) for item in judged] == [
        ("a", True),
        ("c", False),
        ("b", False),
        ("d", True),
    ] and found["web_true"] == 0.5
    assert lines == [
        "CapFilt: 2 of 2 pictures captioned and judged",
        "CapFilt: 50% of 2 web captions are kept, of which 100% are true (before: 50%)",
        "CapFilt: 50% of 2 written captions are kept, of which 0% are true (before: 0%)",
    ]


# ---------------------------------------------------------------------- captioner and filter
class Framed(TinySource, NoisySource):
    """The tiny source in framed words, with the names that CapFilt asks for."""

    texts = ()

    def __init__(self):
        super().__init__()
        self.tokenizer = self.tokenizer.with_frame(DEC, ENC)
        self.texts = [(caption,) for caption in self.sentences[: self.pairs]]

    with_captions = None  # nobody asks

    def web_pictures(self):
        return np.arange(4, self.pairs)

    def images(self, pictures):
        return self.pictures[pictures]

    def by_people(self):
        people = Framed()
        people.pairs, people.texts = 4, self.texts[:4]
        return people


SETTINGS = blips.BLIPSettings(
    width=16, layers=1, text_layers=1, heads=2, embed_dim=8, queue=2, batch_size=4, steps=4
)


@pytest.fixture(scope="module")
def blip():
    source = Framed()
    source.preprocess = SimpleNamespace(resolution=16, channels=1)
    return blips.prepare(SETTINGS, source, {})


def moved(before, after):
    """Return the parts of the model whose trained parameters have changed."""
    old = before.state_dict()
    return {
        name.split(".")[0]
        for name, array in after.state_dict().items()
        if name in after.trainable() and not np.array_equal(array, old[name])
    }


def test_each_is_tuned_by_its_own_losses_and_the_model_stays_what_it_was(blip):
    before = {name: array.copy() for name, array in blip.state_dict().items()}
    recipe = TrainConfig(2, 4, 1e-2, 0)
    captioner, filter_ = (
        fine_tuned(blip, Framed().by_people(), objectives, recipe)
        for objectives in (("lm",), ("itc", "itm"))
    )
    assert moved(blip, captioner) == {"encoders", "decoder"}
    assert moved(blip, filter_) == {"encoders", "itm_head", "temperature"}
    assert not captioner.training and not filter_.training
    assert all(np.array_equal(array, before[name]) for name, array in blip.state_dict().items())
    again = fine_tuned(blip, Framed().by_people(), ("lm",), recipe)
    assert all(
        np.array_equal(array, captioner.state_dict()[name])
        for name, array in again.state_dict().items()
    )


def test_they_are_tuned_on_people_s_pairs_with_draws_of_their_own(blip, monkeypatch):
    tuned, seen = capfilt.fine_tuned, []

    def watched(model, people, objectives, recipe):
        seen.append((model is blip, people.texts, objectives, recipe))
        return tuned(model, people, objectives, recipe)

    monkeypatch.setattr(capfilt, "fine_tuned", watched)
    monkeypatch.setattr(capfilt, "THRESHOLD", -1.0)
    lines, recipe = [], TrainConfig(1, 4, 1e-2, 0, seed=5)
    judged, found = clean(blip, Framed(), recipe, lines.append)
    people = Framed().texts[:4]
    assert [entry[:3] for entry in seen] == [
        (True, people, ("lm",)),
        (True, people, ("itc", "itm")),
    ]
    assert len({5, *(recipe.seed for *_, recipe in seen)}) == 3 and all(
        recipe.steps == 1 for *_, recipe in seen
    )
    assert (
        lines[0]
        == "CapFilt: captioner and filter are tuned for 1 steps each on 4 pairs that people have seen"
    )
    assert (
        {item.picture for item in judged} == set(range(4, 12))
        and found["web_kept"] == 1
        and "web_true" not in found
    )


def test_tuning_is_training_at_half_the_rate():
    recipe = TrainConfig(1000, 32, 1e-3, 60, 0.5, 7, 2)
    assert (
        tuning(recipe, 200) == TrainConfig(200, 32, 5e-4, 20, 0.5, 7, 2)
        and tuning(recipe, 3).warmup == 3
    )


# ---------------------------------------------------------------------- what it brings back
def test_what_is_recovered_is_a_share_of_what_the_noise_cost():
    table = {
        "all true": {"R@1": 0.8, "swaps": 0.90, "LM perplexity": 2.0, "exact": 0.5, "worse": 0.4},
        "as they came": {
            "R@1": 0.4,
            "swaps": 0.89,
            "LM perplexity": 4.0,
            "exact": 0.0,
            "worse": 0.6,
        },
        "filtered": {"R@1": 0.3, "swaps": 0.95, "LM perplexity": 3.5, "exact": 0.5, "worse": 0.5},
        "CapFilt": {"R@1": 0.9, "swaps": 0.95, "LM perplexity": 1.5, "exact": 0.1, "worse": 0.5},
    }
    # Where noise cost nothing (0.01 of the swaps, or less than nothing) there is nothing to win back.
    assert ablate_blip.recovered(table, "filtered") == {
        "R@1": -0.25,
        "LM perplexity": 0.25,
        "exact": 1.0,
    }
    assert ablate_blip.recovered(table, "CapFilt") == {
        "R@1": 1.25,
        "LM perplexity": 1.25,
        "exact": 0.2,
    }
