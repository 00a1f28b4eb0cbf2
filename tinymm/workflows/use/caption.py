"""`caption`: what a trained model says of pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.tasks import GENERATE
from tinymm.training.evaluate_matching import write_captions

from ..open_model import introduce, open_model
from ..terminal import tell
from .classify import prepared


def run(
    pictures: Sequence[str],
    *,
    model: str | None = None,
    prompt: str | None = None,
    beams: int = 1,
    nucleus: float | None = None,
    temperature: float = 1.0,
    longest: int | None = None,
    seed: int = 0,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = tell,
    **told: Any,
) -> dict[str, str]:
    """Print and return a caption for each picture, by a model that writes.

    Greedy by default; `beams` keeps that many beginnings, `nucleus` draws by `seed`. A `prompt` is the beginning of the text.
    UsageError for a model that does not write, a prompt that it cannot read, or a `temperature` where nothing is drawn.
    """
    if nucleus is None and temperature != 1:
        raise UsageError(f"--temperature {temperature:g} bends the draws of --nucleus, and without it nothing is drawn; give --nucleus 0.9 too")
    opened = open_model(
        model, can=(GENERATE,), command="caption", backend=backend, tokenizer=tokenizer, **told
    )
    options: dict[str, Any] = {"beams": beams, "nucleus": nucleus, "temperature": temperature, "max_new_tokens": longest}
    if nucleus is not None:
        options["rng"] = generator(seed)
    if prompt:
        ids, is_real = opened.tokenizer([prompt])
        if getattr(opened.tokenizer, "cut", 0):
            room = getattr(opened.tokenizer, "context", None)
            raise UsageError(f"a prompt is read whole and leaves room for an answer, and {prompt!r} is too long for {room} tokens; shorten it")
        if ids[0, -1] == getattr(opened.tokenizer, "end_of_text", None):
            ids, is_real = ids[:, :-1], is_real[:, :-1]  # the text goes on
        options |= {"ids": ids, "is_real": is_real}
    found: dict[str, str] = {}
    for picture in pictures:
        text = write_captions(opened.model, np.stack([prepared(opened, picture)]), opened.tokenizer, **options)[0]
        if not found:
            introduce(opened, model)
        found[str(picture)] = text
        say(f"{picture}: {f'{prompt} ' if prompt else ''}{text}")
    return found
