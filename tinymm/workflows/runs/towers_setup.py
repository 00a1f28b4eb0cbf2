"""What a run of `train albef` or `train blip` starts from: its settings, the data in framed words, and a fresh model of these sizes."""

from dataclasses import dataclass, replace
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.data.datasets import datasets
from tinymm.data.text import DEC, ENC, MASK
from tinymm.layers.init import normal
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.vit import ViTConfig

from ..flags import at_least
from ..open_model import open_source
from ..words import choose

#: Of fresh words and positions: what is to be told apart should begin apart (see docs/blip2.md).
EMBEDDING_STD, POSITION_STD = 0.2, 0.5
#: What takes either model about five minutes on two cores.
TEXT_LAYERS, STEPS = {"albef": 2, "blip": 3}, {"albef": 1000, "blip": 1050}


@dataclass(frozen=True)
class Settings:
    """All that a run of `train albef` or `train blip` depends on, as `run.json` keeps it; `model` is "albef" or "blip".

    `text_layers` counts those that read, in ALBEF; as many again look at the picture. In BLIP every one does both. It and `steps` None mean the
    model's own. `queue` is in batches, `ramp` in steps. `capfilt` trains a first BLIP, cleans the captions with it, tuned for `tuning_steps`, and
    trains on those. UsageError for another model, or a share outside [0, 1].
    """

    model: str = "albef"
    data: str = "shapes"
    tokenizer: str | None = None
    vocabulary: str = "words"
    resolution: int = 32
    patch: int = 8
    width: int = 128
    expansion: int = 2
    layers: int = 3
    text_layers: int | None = None
    heads: int = 4
    joint: int = 64
    queue: int = 8
    momentum: float | None = 0.9
    alpha: float = 0.4
    ramp: int = 200
    hidden_share: float = 0.15
    steps: int | None = None
    batch_size: int = 64
    rate: float = 1e-3
    warmup: int = 50
    decay: float = 0.05
    clip: float = 1.0
    chunk: int | None = None
    capfilt: bool = False
    tuning_steps: int = 300
    checkpoint_every: int = 100
    validate_every: int = 150
    seed: int = 0
    workers: int | None = None
    backend: str = "numpy"

    def __post_init__(self):
        if self.model not in ("albef", "blip"):
            raise UsageError(f"two towers with a twin are albef and blip, and {self.model!r} came; choose one")
        for name, own in (("text_layers", TEXT_LAYERS), ("steps", STEPS)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, own[self.model])
        lowest = dict.fromkeys(("resolution", "patch", "width", "expansion", "layers", "text_layers", "heads", "joint", "queue", "steps"), 1)
        lowest["tuning_steps"] = 1
        lowest |= dict.fromkeys(("checkpoint_every", "validate_every", "workers", "chunk"), 1) | {"batch_size": 2}
        lowest |= dict.fromkeys(("warmup", "decay", "clip", "seed", "rate", "ramp"), 0)
        at_least(self, lowest)
        for name in ("momentum", "alpha", "hidden_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} lies in [0, 1], and {value} came; give another, or leave it out")


def opened(settings: Settings, run: str | None = None) -> Any:
    """Return the data, its captions as [CLS] … [SEP]; UsageError for data that CapFilt cannot clean, or of one picture.

    A `run` that goes on has its words already.
    """
    cleaning = "albef" if settings.model == "albef" else "blip"
    own: dict[str, Any] = {}
    if run and settings.data not in datasets():
        own["tokenizer"] = pretrained.tokenizer(run, cleaning=cleaning)
    source: Any = open_source(settings.data, seed=settings.seed, resolution=settings.resolution, **own)
    if settings.capfilt and not source.noisy:
        raise UsageError(f"--capfilt cleans captions that may be wrong, and those of {settings.data} are right; give --data web-shapes, or a folder")
    if len(source) < 2:
        raise UsageError(f"a contrastive batch needs at least 2 pairs and the data has {len(source)}; add pictures with captions")
    words = choose(source, settings.tokenizer, settings.vocabulary, cleaning=cleaning, run=run)
    source.tokenizer = words.with_frame(*((MASK,) if settings.model == "albef" else (DEC, ENC)))
    return source


def fitting(settings: Settings, source: Any) -> Settings:
    """Return the settings with a batch that this data can fill: no picture stands in a batch twice."""
    return replace(settings, batch_size=min(settings.batch_size, len(source)))


def prepare(settings: Settings, source: Any) -> ALBEF | BLIP:
    """Return a fresh ALBEF or BLIP for this data, whose batches divide its queue."""
    return build(fitting(settings, source), source.tokenizer, source.preprocess.resolution, source.preprocess.channels)


def build(settings: Settings, words: Any, resolution: int, channels: int) -> ALBEF | BLIP:
    """Return a fresh model for these words and pictures."""
    width, hidden = settings.width, settings.expansion * settings.width
    layers = settings.text_layers or 1
    image = ViTConfig.plain(resolution, settings.patch, width, settings.layers, settings.heads, channels=channels, feed_forward=hidden)
    albef = settings.model == "albef"
    text = BertConfig(
        len(words), words.context, width, 2 * layers if albef else layers, settings.heads, feed_forward=hidden, memory_width=width,
        crosses_from=layers if albef else 0, token_types=2 if albef else 0, std=(2 / width) ** 0.5, embedding_std=EMBEDDING_STD,
    )  # fmt: skip
    habits: dict[str, Any] = {
        "joint_width": settings.joint, "queue": settings.queue * settings.batch_size, "momentum": settings.momentum, "alpha": settings.alpha,
        "ramp": settings.ramp * settings.batch_size,
    }  # fmt: skip
    rng = generator(settings.seed)
    model: ALBEF | BLIP
    if albef:
        model = ALBEF(ALBEFConfig(image, text, **habits, hidden_share=settings.hidden_share, mask=words.mask_token), rng)
    else:
        tokens = {"decode": words.decode_token, "encode": words.encode_token, "end_of_text": words.end_of_text}
        model = BLIP(BLIPConfig(image, text, **habits, **tokens), rng)
    positions = model.image_encoder.positions
    positions.data = normal(generator(settings.seed, 4), positions.shape, POSITION_STD)
    return model.to(settings.backend)
