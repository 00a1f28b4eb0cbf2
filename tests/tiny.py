"""Small models and a small source of pairs for the tests of models, training and workflows."""

import itertools
from dataclasses import replace

import numpy as np

from tinymm.arrays.backend import to_backend
from tinymm.data.batches import Batch, PairSet, Source, ZeroShot
from tinymm.data.images import Preprocess
from tinymm.data.text import WordTokenizer
from tinymm.models.cbow import CBOWConfig
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig

PAIRS = list(itertools.product(("vit", "resnet"), ("transformer", "cbow")))


def tiny_clip(image="vit", text="transformer", seed=0, dtype="float32"):
    """Return `CLIP(CLIPConfig.tiny(image, text))`; the ResNet sees 64 pixels, so that its last map has 2 × 2 places."""
    config = CLIPConfig.tiny(image, text)
    if image == "resnet":
        config = replace(config, image=replace(config.image, resolution=64))
    return CLIP(config, np.random.default_rng(seed)).astype(dtype)


def randomized(model, seed=1):
    """Return the model with no parameter left where initialization puts it: a gain of 1 or a bias of 0 hides mistakes."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.1 * rng.standard_normal(parameter.shape)).astype(
            parameter.dtype
        )
    return model


def tiny_batch(model, pairs=4, seed=0):
    """Return random pictures (B, h, w, c) and texts (B, T) of different lengths that fit the model, which lives on NumPy."""
    rng = np.random.default_rng(seed)
    image, text = model.config.image, model.config.text
    images = rng.standard_normal(
        (pairs, image.resolution, image.resolution, image.channels)
    ).astype(model.t.dtype)
    T = min(7, text.context)
    ids = rng.integers(2, text.vocabulary - 1, (pairs, T))
    ends = rng.integers(2, T, pairs)
    ids[np.arange(T) > ends[:, None]] = 0
    ids[np.arange(pairs), ends] = text.vocabulary - 1
    return images, ids


def moved(images, backend):
    """Return pictures on a backend."""
    return to_backend(images, backend)


class TinySource(Source):
    """Pictures of noise, one or more captions of three words each; what a data set is to the training loop, in milliseconds."""

    name = "tiny"

    def __init__(self, pairs=12, resolution=16, captions_each=1, repeated_caption=False):
        rng = np.random.default_rng(5)
        words = [f"w{i}" for i in range(9)]
        self.tokenizer = WordTokenizer(tuple(words), context=6)
        self.preprocess = Preprocess(resolution, 1, (0.5,), (0.25,))
        self.pictures = rng.standard_normal((pairs + 6, resolution, resolution, 1)).astype(
            np.float32
        )
        combinations = list(itertools.combinations(words, 3))
        chosen = rng.permutation(len(combinations))[: (pairs + 6) * captions_each]
        self.sentences = [" ".join(combinations[i]) for i in chosen]
        if repeated_caption:
            self.sentences = [self.sentences[0]] * len(self.sentences)
        self.captions_each, self.pairs = captions_each, pairs

    def __len__(self):
        return self.pairs

    def batch(self, indices, rng):
        noise = 0.1 * rng.standard_normal(
            (len(indices), *self.pictures.shape[1:]), dtype=np.float32
        )
        captions = tuple(self.sentences[i * self.captions_each] for i in indices)
        ids, is_real = self.tokenizer(captions)
        return Batch(self.pictures[indices] + noise, ids, is_real, np.asarray(indices), captions)

    def validation(self):
        each = self.captions_each
        owners = np.repeat(np.arange(6), each)
        return PairSet(self.pictures[self.pairs :], self.sentences[self.pairs * each :], owners)

    def captions(self):
        each = self.captions_each
        return [tuple(self.sentences[i * each : (i + 1) * each]) for i in range(self.pairs)]

    def zero_shot(self):
        return {
            "word": ZeroShot(
                self.pictures[:6], ("w0", "w1", "w2"), np.arange(6) % 3, ("{}", "{} w4")
            )
        }


def clip_for(source, image="vit", text="transformer", width=16, seed=0):
    """Return a small CLIP that fits a source's pictures and words."""
    resolution = source.preprocess.resolution
    pictures = (
        ViTConfig(resolution, 8, width, 1, 2, channels=1)
        if image == "vit"
        else ResNetConfig(resolution, 4, 2, (1, 1, 1, 1), channels=1)
    )
    words = {
        "vocabulary": len(source.tokenizer),
        "context": source.tokenizer.context,
        "width": width,
    }
    end = source.tokenizer.end_of_text
    texts = (
        TextConfig(**words, layers=1, heads=2, end_of_text=end)
        if text == "transformer"
        else CBOWConfig(**words, end_of_text=end)
    )
    return CLIP(CLIPConfig(8, pictures, texts), np.random.default_rng(seed))
