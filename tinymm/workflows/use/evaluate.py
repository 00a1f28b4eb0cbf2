"""`eval`: the numbers of a finished model on a data set, each beside its chance level."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, UsageError
from tinymm.data.images import open_picture
from tinymm.data.text import split_words
from tinymm.data.your_data.fingerprint import fingerprint
from tinymm.tasks import CONTRAST, GENERATE, MATCH
from tinymm.training.records import write_json

from .. import commands
from ..measure import measure
from ..open_model import LoadedModel, introduce, open_model
from ..report import table
from ..run_folder import not_new, seen_by
from ..sources import source_for
from ..terminal import doing, tell

#: Pictures that are opened to see what they are like.
LOOKED_AT = 50


def run(
    model: str | None = None,
    data: str | None = None,
    out: str | None = None,
    *,
    seed: int = 0,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = tell,
    **told: Any,
) -> dict[str, Any]:
    """Print and return a model's numbers on its own data or on `data`; write them to the file `out` if given.

    `data` is the name of built-in data, if the model speaks its words, or a path to pictures and
    captions. What is measured follows from what the model can do (`measure`). Of parts that the
    model's folder has no weights for, as a BLIP for captions has none for matching, it says so and
    leaves out what they decide. UsageError where nobody names data, or the model speaks other
    words.
    """
    opened = open_model(
        model,
        can=(CONTRAST, MATCH, GENERATE),
        command="eval",
        backend=backend,
        tokenizer=tokenizer,
        **told,
    )
    where = data or opened.settings.get("data")
    if where is None:
        raise UsageError(
            f"{opened.path} does not say what it was trained on; name the pictures and captions with "
            "--data"
        )
    # The run's own seed, whose split kept the validation pictures out of its training.
    source = source_for(opened, where, opened.settings.get("seed", seed))
    introduce(opened, model)
    if without := opened.spec.can - opened.able:
        parts = ", ".join(opened.lacking(without))
        say(f"{opened.path} has no weights for {parts}; what these decide is left out")
    for remark in remarks(opened, source, where):
        say(remark)
    not_new(fingerprint(source), seen_by(opened.path), str(opened.path), say)
    with doing("measuring"):
        results = measure(opened.model, source)
    return _told(results, out, say)


def remarks(opened: LoadedModel, source: Any, where: str) -> list[str]:
    """Return what the numbers of a model on data that is foreign to it suffer from: unknown words, colors and sizes that it does not see."""
    found: list[str] = []
    if not source.splits:
        return found
    entries = [entry for entries in source.splits.values() for entry in entries]
    words = Counter(
        word for entry in entries for caption in entry.captions for word in split_words(caption)
    )
    unknown: dict[str, int] = getattr(opened.tokenizer, "unknown", lambda _: {})(list(words))
    share = sum(words[word] for word in unknown) / max(1, words.total())
    if share > 0.5:
        some = ", ".join(sorted(unknown, key=lambda word: -words[word])[:3])
        found.append(
            f"words: {share:.0%} of these captions' words are unknown to the model, {some} …; it reads them as one and the same"
        )
    sizes, colored = [], 0
    for entry in entries[:: max(1, len(entries) // LOOKED_AT)][:LOOKED_AT]:
        try:
            pixels = open_picture(entry.source(), entry.name)
        except (DataError, OSError):
            continue
        sizes.append(min(pixels.size))
        colored += np.ptp(np.asarray(pixels.convert("RGB"), np.int16), axis=2).max() > 8
    image = opened.model.config.image
    if image.channels == 1 and colored:
        found.append(
            f"colors: {colored} of {len(sizes)} pictures looked at have colors, and the model sees gray ones only"
        )
    small = sum(size < image.resolution for size in sizes)
    if small:
        seen = f"the {image.resolution} pixels that the model sees"
        found.append(
            f"sizes: {small} of {len(sizes)} pictures looked at are smaller than {seen}, and are enlarged"
        )
    return found


def _told(results: dict[str, Any], out: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    for line in table(results):
        say(line)
    if out:
        write_json(out, results)
    return results


# ---------------------------------------------------------------------- the command
PLACE = 30


def declare(parsers: Any) -> None:
    """Add eval."""
    evaluate = commands.add(
        parsers,
        "eval",
        "print a model's recall and accuracy beside chance",
        "eval --model runs/first",
        _command,
    )
    commands.common(evaluate, out="write the numbers to this JSON file too")
    commands.model(evaluate)
    evaluate.add_argument(
        "--data",
        help="the name of built-in data or a path to pictures and captions (default: what the model was trained on)",
    )


def _command(**options: Any) -> None:
    run(**options)
