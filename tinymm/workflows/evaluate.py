"""`eval`: the numbers of a finished model on a data set, each beside its chance level."""

from collections.abc import Callable
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.models.clip import CLIP
from tinymm.training.records import write_json

from . import measured
from .blip2_start import framed_source
from .meanings import meaning
from .opened import BUILT_IN, CLIPS, STAGE_1, STAGE_2, TOWERS, open_model, open_source
from .train import measure
from .words import shared


def run(
    model: str | None = None,
    data: str | None = None,
    out: str | None = None,
    *,
    seed: int = 0,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Print and return a model's numbers on its own data or on `data`; write them to the file `out` if given.

    `data` is the name of built-in data, if the model speaks its words, or a path to pictures and captions.
    A CLIP is asked for recall both ways, zero-shot and probe accuracy, the others for what `measured` says. Of parts that the model's folder has
    no weights for, as a BLIP for captions has none for matching, it says so: what they decide is chance. UsageError where nobody says which data, or
    the model speaks other words.
    """
    opened = open_model(model, backend=backend, tokenizer=tokenizer, of_type=(*CLIPS, *TOWERS, *STAGE_1, *STAGE_2))
    where = data or opened.settings.get("data")
    if where is None:
        raise UsageError(f"{opened.path} does not say what it was trained on; name the pictures and captions with --data")
    image = opened.model.config.image
    if not isinstance(opened.model, CLIP):
        frame = getattr(opened.tokenizer, "frame", ())[1:]
        fresh = sorted({".".join(name.split(".")[:2]) for name in opened.fresh if not name.startswith(("queue.", "twin."))})
        if fresh:
            say(f"{opened.path} has no weights for {', '.join(fresh)}; what these decide below is a fresh model's guess")
        source = framed_source(where, opened.settings.get("seed", seed), opened, frame, to_train=False)
        return _told(measured.measure(opened.model, source), out, say)
    given = {} if where in BUILT_IN else {"tokenizer": opened.tokenizer, "preprocess": opened.preprocess}
    # The run's own seed, whose split kept the validation pictures out of its training.
    source = open_source(where, seed=opened.settings.get("seed", seed), channels=image.channels, resolution=image.resolution, **given)
    if where in BUILT_IN and not shared(source, opened.tokenizer):
        raise UsageError(f"{opened.path} speaks other words than {where} do; evaluate it on pictures and captions of yours with --data")
    return _told(measure(opened.model, source), out, say)


def _told(results: dict[str, Any], out: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    for line in table(results):
        say(line)
    if out:
        write_json(out, results)
    return results


def table(results: dict[str, Any]) -> list[str]:
    """Return the numbers that have a chance level as lines, the chance beside each, and what it is.

    >>> table({"unseen_face_r1": 0.5, "chance": {"unseen_face_r1": 0.01}})
    ['unseen face R@1                    0.500   chance 0.010   known characters in a face never trained on']
    """
    lines = []
    for name, level in results["chance"].items():
        words = name.replace("_r1", " R@1").replace("_", " ")
        lines.append(f"{words:<32}{results[name]:>8.3f}   chance {level:.3f}   {meaning(name)}".rstrip())
    return lines
