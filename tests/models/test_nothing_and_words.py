"""Models of an empty batch, and models that are handed words instead of ids: a result of the right shape, or a sentence."""

import numpy as np
import pytest

from tinymm import Tensor
from tinymm.arrays.errors import DataError, DtypeError, UsageError
from tinymm.layers import BatchNorm2d, CrossAttention
from tinymm.losses import hard_negatives, itc_targets
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.opt import OPT, OPTConfig
from tinymm.training.evaluate import (
    chosen_class,
    embed_images,
    embed_texts,
    linear_probe,
    zero_shot,
)
from tinymm.training.evaluate_matching import image_tokens
from tinymm.training.gradient_cache import gradient_cached

CLIPS = [
    CLIPConfig.tiny(image, text) for image in ("vit", "resnet") for text in ("transformer", "cbow")
]
OTHERS = [(ALBEF, ALBEFConfig), (BLIP, BLIPConfig), (BLIP2Stage1, BLIP2Config)]


def rng():
    return np.random.default_rng(0)


def pictures(n, config):
    return np.zeros(
        (n, config.image.resolution, config.image.resolution, config.image.channels), np.float32
    )


@pytest.mark.parametrize(
    "config", CLIPS, ids=lambda c: f"{type(c.image).__name__}-{type(c.text).__name__}"
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_clip_of_nothing(config, mode):
    model = getattr(CLIP(config, rng()), mode)()
    none, ids = pictures(0, config), np.zeros((0, 5), int)
    for features in (model.encode_image(none), model.encode_text(ids)):
        assert features.shape == (0, 16)
        features.backward(np.zeros((0, 16), np.float32))
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    assert model(none, ids).shape == (0, 0) and model(pictures(2, config), ids).shape == (2, 0)
    assert (
        embed_images(model, none).shape
        == embed_texts(model, [], lambda texts: (np.zeros((len(texts), 5), int), None)).shape
        == (0, 16)
    )


def test_chunks_of_nothing():
    config = CLIPS[0]
    encoder = CLIP(config, rng()).image_encoder
    y = gradient_cached(lambda encoder: encoder, 2)(encoder)(pictures(0, config))
    y.backward(np.zeros(y.shape, np.float32))
    assert y.shape == (0, config.image.width) and not encoder.class_embedding.grad.any()


@pytest.mark.parametrize(("model", "config"), OTHERS, ids=[model.__name__ for model, _ in OTHERS])
def test_the_other_models_of_nothing(model, config):
    config = config.tiny()
    model = model(config, rng())
    none, ids = pictures(0, config), np.zeros((0, 5), int)
    assert (
        len(model.encode_image(none))
        == len(model.encode_text(ids))
        == len(model.itm_probability(none, ids))
        == len(image_tokens(model, none))
        == 0
    )
    assert not hasattr(model, "generate") or model.generate(none) == []


def test_parts_of_nothing():
    assert CrossAttention(4, 2, rng=rng())(np.zeros((0, 3, 4)), np.zeros((0, 5, 4))).shape == (
        0,
        3,
        4,
    )
    assert CrossAttention(4, 2, rng=rng())(np.zeros((2, 0, 4)), np.zeros((2, 5, 4))).shape == (
        2,
        0,
        4,
    )
    assert [draw.shape for draw in hard_negatives(np.zeros((0, 0)), np.zeros(0, int), rng())] == [
        (0,),
        (0,),
    ]
    assert itc_targets(np.zeros(0, int), 0.1).shape == (0, 0)


def test_no_picture_leaves_the_running_statistics_alone():
    norm = BatchNorm2d(3)
    assert norm(Tensor(np.zeros((0, 2, 2, 3), np.float32))).shape == (0, 2, 2, 3)
    assert (
        norm.running_mean.data.tolist() == [0.0] * 3
        and norm.running_variance.data.tolist() == [1.0] * 3
        and norm.batches_seen.data == 0
    )


def test_words_are_no_ids_and_lists_no_pictures():
    models = [CLIP(config, rng()) for config in CLIPS[:2]] + [
        model(config.tiny(), rng()) for model, config in OTHERS
    ]
    for text in ("a cat", ["a cat"], [[1, 2]]):
        for model in models:
            with pytest.raises(
                DtypeError,
                match=r"ids are an array \(B, T\) of whole numbers, and a (str|list) came; write ids, is_real = tokenizer",
            ):
                model.encode_text(text)
        with pytest.raises(DtypeError, match="ids are an array"):
            OPT(OPTConfig.tiny(), rng())(text)
    for model in models:
        with pytest.raises(DtypeError, match="pictures are an array .* and a list came"):
            model.encode_image([[[[0.0]]]])


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_token_is_no_caption(tokens):
    for model, config in OTHERS[1:]:
        config = config.tiny()
        with pytest.raises(
            UsageError, match=f"writes 1 to max_new_tokens tokens, .* max_new_tokens {tokens}"
        ):
            model(config, rng()).generate(pictures(1, config), max_new_tokens=tokens)


# ---------------------------------------------------------------------- measures see NaN
class Lost:
    """A model that says NaN for everything."""

    def eval(self): ...

    def parameters(self):
        return [Tensor(np.zeros(1))]

    def encode_image(self, x, is_real=None):
        return Tensor(np.full((len(x), 4), np.nan))

    encode_text = encode_image
    similarity = staticmethod(CLIP.similarity)


def test_a_model_that_says_nan_names_no_class():
    from tinymm.data.batches import ZeroShot

    task = ZeroShot(np.zeros((10, 2, 2, 3)), ("a", "b"), np.array([0] * 7 + [1] * 3), ("{}",))
    found = zero_shot(Lost(), task, lambda texts: (np.zeros((len(texts), 2), int), None))
    assert found["accuracy"] == found["mean_class_accuracy"] == 0.0
    assert chosen_class(np.array([[0.0, np.nan], [0.0, np.inf]])).tolist() == [-1, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_probe_of_nan_is_refused(bad):
    right = np.random.default_rng(0).standard_normal((20, 4))
    wrong = right.copy()
    wrong[3] = bad
    labels = np.arange(20) % 2
    for train, test, name in ((wrong, right, "features"), (right, wrong, "test features")):
        with pytest.raises(DataError, match=f"1 of 20 {name} are not"):
            linear_probe(train, labels, test, labels)
