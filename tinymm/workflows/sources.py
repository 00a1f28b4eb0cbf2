"""The data that a model is trained or measured on, in the words and at the size that it knows."""

from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.data.batches import Source
from tinymm.data.datasets import datasets
from tinymm.tasks import ModelSpec

from . import words as vocabularies
from .open_model import LoadedModel, open_source


def fresh_source(spec: ModelSpec, settings: Any, *, run: str | None = None) -> Source:
    """Return the data of a model that is trained from scratch, its texts framed as the model asks.

    A `run` that goes on has its tokenizer already.
    """
    own: dict[str, Any] = {}
    if run and settings.data not in datasets():
        own["tokenizer"] = pretrained.tokenizer(run, cleaning=spec.cleaning)
    source = open_source(
        settings.data, seed=settings.seed, resolution=settings.resolution or 32, **own
    )
    source.tokenizer = vocabularies.choose(
        source, settings.tokenizer, settings.vocabulary, cleaning=spec.cleaning, run=run
    )
    return framed(source, spec.frame)


def source_for(
    opened: LoadedModel, data: str, seed: int, *, part_of: ModelSpec | None = None
) -> Source:
    """Return data in the preprocessing of a model that was opened, and in its words.

    Where it becomes `part_of` another model its images count: built-in data keeps words of its own,
    and texts are framed as that model asks. Else a tokenizer that frames its texts already, as
    BERT's does, is taken as it is. UsageError for built-in data of other words or another size than
    the model's.
    """
    seen = opened.model.config.image
    given: dict[str, Any] = {}
    if data not in datasets():
        given = {"tokenizer": opened.tokenizer, "preprocess": opened.preprocess}
    source = open_source(
        data, seed=seed, channels=seen.channels, resolution=seen.resolution, **given
    )
    shared = data not in datasets() or vocabularies.shared(source, opened.tokenizer)
    if not shared and part_of is None:
        raise UsageError(
            f"{opened.path} speaks other words than {data} do; use it with --data on pictures and "
            "captions of yours"
        )
    side, channels = source.preprocess.resolution, source.preprocess.channels
    if (side, channels) != (seen.resolution, seen.channels):
        raise UsageError(
            f"{data} has pictures of {side} × {side} × {channels}, and {opened.path} takes "
            f"{seen.resolution} × {seen.resolution} × {seen.channels}; {_way_out(opened)}"
        )
    if part_of is not None:
        return framed(source, part_of.frame)
    if opened.spec.frame is None or getattr(source.tokenizer, "begin", None) is not None:
        return source
    own: tuple[str, ...] = getattr(opened.tokenizer, "frame", ())[1:]
    return framed(source, own or opened.spec.frame)


def framed(source: Source, frame: tuple[str, ...] | None) -> Source:
    """Return the source, its texts between [CLS] and [SEP] and the special tokens `frame` at hand."""
    if frame is not None:
        words: Any = source.tokenizer
        source.tokenizer = words.with_frame(*frame)
    return source


def check_enough(source: Source) -> None:
    """Raise UsageError for data of one pair."""
    if len(source) < 2:
        raise UsageError(
            f"a contrastive batch needs at least 2 pairs and the data has {len(source)}; add "
            "pictures with captions"
        )


def _way_out(opened: LoadedModel) -> str:
    trained_on = opened.settings.get("data")
    named = f"name its own data with --data {trained_on}, or" if trained_on else "name"
    return f"{named} pictures and captions of yours with --data"
