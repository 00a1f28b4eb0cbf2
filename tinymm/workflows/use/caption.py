"""`caption`: what a trained model says of pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.tasks import GENERATE
from tinymm.training.evaluate_matching import write_captions

from .. import commands
from ..open_model import introduce, open_model
from ..terminal import tell
from .classify import prepared


def run(
    pictures: Sequence[str],
    *,
    model: str | None = None,
    prompt: str | None = None,
    beams: int = 1,
    top_p: float | None = None,
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = tell,
    **told: Any,
) -> dict[str, str]:
    """Print and return a caption for each picture, by a model that writes.

    Greedy by default; `beams` keeps that many beginnings, `top_p` draws by `seed`. A `prompt` is
    the beginning of the text. UsageError for a model that does not write, a prompt that it cannot
    read, or a `temperature` where nothing is drawn.
    """
    if top_p is None and temperature != 1:
        raise UsageError(
            f"--temperature {temperature:g} bends the draws of --top-p, and without it nothing is drawn; give --top-p 0.9 too"
        )
    opened = open_model(
        model, can=(GENERATE,), command="caption", backend=backend, tokenizer=tokenizer, **told
    )
    options: dict[str, Any] = {
        "beams": beams,
        "top_p": top_p,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
    }
    if top_p is not None:
        options["rng"] = generator(seed)
    if prompt:
        ids, _ = opened.tokenizer([prompt])  # one prompt, so without padding
        if getattr(opened.tokenizer, "cut", 0):
            room = getattr(opened.tokenizer, "context", None)
            raise UsageError(
                f"a prompt is read whole and leaves room for an answer, and {prompt!r} is too long for {room} tokens; shorten it"
            )
        if ids[0, -1] == getattr(opened.tokenizer, "end_of_text", None):
            ids = ids[:, :-1]  # the text goes on
        options["ids"] = ids
    found: dict[str, str] = {}
    for picture in pictures:
        text = write_captions(
            opened.model, np.stack([prepared(opened, picture)]), opened.tokenizer, **options
        )[0]
        if not found:
            introduce(opened, model)
        found[str(picture)] = text
        say(f"{picture}: {f'{prompt} ' if prompt else ''}{text}")
    return found


# ---------------------------------------------------------------------- the command
PLACE = 20


def declare(parsers: Any) -> None:
    """Add caption."""
    caption = commands.add(
        parsers, "caption", "say what pictures show", "caption a.png --beams 3", _command
    )
    caption.add_argument("pictures", nargs="+", metavar="PICTURE")
    caption.add_argument(
        "--prompt",
        metavar="TEXT",
        help="the beginning of the text, which the model goes on from (BLIP, and stage 2 of BLIP-2)",
    )
    caption.add_argument(
        "--beams",
        type=int,
        default=1,
        metavar="N",
        help="beginnings kept side by side (default: 1, greedy)",
    )
    caption.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw each word from the likeliest ones that together have this probability",
    )
    caption.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="flatter (above 1) or sharper draws (default: 1)",
    )
    caption.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="most new words (default: what the model has room for)",
    )
    commands.common(caption)
    commands.model(caption)


def _command(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json

    found = run(**options)
    if out:
        write_json(out, found)
