"""`caption`: what a trained model says of pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.models.blip import BLIP
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.training.evaluate_matching import write_captions

from ..open_model import STAGE_1, STAGE_2, WRITER, a, introduce, open_model
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
    """Print and return a caption for each picture, by a model that writes: BLIP, or either stage of BLIP-2.

    Greedy by default; `beams` keeps that many beginnings, `nucleus` draws by `seed`. A `prompt` is the beginning of the text, for BLIP and stage 2.
    UsageError for a model that does not write, a prompt that it cannot read, or a `temperature` where nothing is drawn.
    """
    if nucleus is None and temperature != 1:
        raise UsageError(f"--temperature {temperature:g} bends the draws of --nucleus, and without it nothing is drawn; give --nucleus 0.9 too")
    opened = open_model(model, backend=backend, tokenizer=tokenizer, of_type=(*STAGE_2, *STAGE_1, *WRITER), **told)
    if not hasattr(opened.model, "caption"):
        raise UsageError(f"{opened.path} holds {a(opened.model)}, which does not write; use a run of `train blip` or `train blip2`")
    if any("language_head" in name for name in opened.fresh):
        raise UsageError(f"{opened.path} holds a model without its language head, as Hugging Face's retrieval folders do; use one that writes")
    options: dict[str, Any] = {"beams": beams, "nucleus": nucleus, "temperature": temperature, "max_new_tokens": longest}
    if nucleus is not None:
        options["rng"] = generator(seed)
    if prompt:
        if not isinstance(opened.model, BLIP | BLIP2Stage2):
            raise UsageError(f"a prompt is the beginning of a language model's text, and {opened.path} holds a stage 1; use a run of stage 2")
        ids, is_real = opened.tokenizer([prompt])
        if getattr(opened.tokenizer, "cut", 0):
            room = getattr(opened.tokenizer, "context", None)
            raise UsageError(f"a prompt is read whole and leaves room for an answer, and {prompt!r} is too long for {room} tokens; shorten it")
        if ids[0, -1] == getattr(opened.tokenizer, "end_of_text", None):
            ids, is_real = ids[:, :-1], is_real[:, :-1]  # the text goes on
        # BLIP puts [DEC] where [CLS] stood; its prompts are of one length
        options |= {"ids": ids[:, 1:]} if isinstance(opened.model, BLIP) else {"ids": ids, "is_real": is_real}
    found: dict[str, str] = {}
    for picture in pictures:
        text = write_captions(opened.model, np.stack([prepared(opened, picture)]), opened.tokenizer, **options)[0]
        if not found:
            introduce(opened, model)
        found[str(picture)] = text
        say(f"{picture}: {f'{prompt} ' if prompt else ''}{text}")
    return found
