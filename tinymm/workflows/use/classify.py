"""`classify`: which of these words fits the picture best? Zero-shot classification by prompts (CLIP, §3.1)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.tasks import CONTRAST
from tinymm.training.evaluate import classifier_weights, embed_images

from .. import commands
from ..open_model import LoadedModel, introduce, open_model
from ..terminal import tell


def run(
    picture: str,
    labels: Sequence[str],
    *,
    model: str | None = None,
    templates: Sequence[str] = ("{}",),
    invert: bool = False,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = tell,
    **told: Any,
) -> dict[str, float]:
    """Print and return the probability of each label for a picture file: the softmax of the scaled cosines with the labels' prompts.

    `invert` swaps dark and light first: glyphs are white on black, and scans and screenshots mostly
    the other way round. UsageError for fewer than 2 labels, or a template without one `{}`.
    """
    chosen = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(chosen) < 2:
        raise UsageError(
            f"classify chooses among labels and needs at least 2 different ones; {chosen} came: give --labels cat,dog"
        )
    without = [template for template in templates if template.count("{}") != 1]
    if without:
        raise UsageError(
            f"a template has one {{}} for the label, and {without[0]!r} came; write --template 'a photo of a {{}}'"
        )
    opened = open_model(
        model, can=(CONTRAST,), command="classify", backend=backend, tokenizer=tokenizer, **told
    )
    warn_unknown(opened, chosen, say)
    image = embed_images(opened.model, prepared(opened, picture, invert)[None])
    weights = classifier_weights(opened.model, tuple(chosen), tuple(templates), opened.tokenizer)
    scores = opened.spec.scale(opened.model) * opened.model.similarity(image, weights)[0]
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    introduce(opened, model)
    width = max(map(len, chosen))
    for i in np.argsort(-shares):
        say(f"{chosen[i]:<{width}}  {shares[i]:6.1%}  {'█' * round(30 * shares[i])}")
    return {label: float(share) for label, share in zip(chosen, shares, strict=True)}


def prepared(opened: LoadedModel, picture: str | Path, invert: bool = False) -> np.ndarray:
    """Return a picture file as the model takes it, (h, w, c), dark and light swapped if asked."""
    pixels = opened.preprocess.pixels(picture)
    return opened.preprocess.normalize(255 - pixels if invert else pixels)


def warn_unknown(opened: LoadedModel, texts: Sequence[str], say: Callable[[str], None]) -> None:
    """Name words that a word-level vocabulary lacks; UsageError for texts that have no other: all such texts look alike to the model."""
    unknown = getattr(opened.tokenizer, "unknown", None)
    if unknown is None:
        return
    words = unknown(list(texts))
    lost = [text for text in texts if not set(opened.tokenizer.split(text)) - set(words)]  # type: ignore[attr-defined]
    if lost:
        raise UsageError(
            f"the model knows no word of {lost[0]!r}; use words of its captions (the vocabulary stands in {opened.path}/tokenizer.json)"
        )
    if words:
        say(f"unknown words, read as one and the same: {', '.join(sorted(words)[:10])}")


# ---------------------------------------------------------------------- the command
PLACE = 40


def declare(parsers: Any) -> None:
    """Add classify."""
    example = "classify a.png --labels 'latin letter,digit'"
    classify = commands.add(
        parsers, "classify", "name a picture by the best of some labels", example, _command
    )
    classify.add_argument("picture")
    classify.add_argument(
        "--labels", required=True, metavar="A,B,C", help="the labels, separated by commas"
    )
    classify.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="a prompt with {} for the label; may be given several times",
    )
    commands.invert(classify)
    commands.common(classify, seed=False)
    commands.model(classify)


def _command(
    picture: str, labels: str, template: list[str] | None, out: str | None, **options: Any
) -> None:
    from tinymm.training.records import write_json

    shares = run(picture, labels.split(","), templates=template or ("{}",), **options)
    if out:
        write_json(out, shares)
