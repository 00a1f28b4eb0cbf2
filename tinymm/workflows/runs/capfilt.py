"""CapFilt: a model that writes captions and judges them cleans the data that it was trained on (BLIP, Li et al. 2022, §3.3).

A BLIP is trained on noisy pairs. Fine-tuned on the few pairs that people have looked at, where
there are some, it becomes a *captioner*, which writes a further caption for each web picture, and a
*filter*, which keeps, of all captions, those that it takes for true. A new BLIP is trained on what
is left. No pair is ever invented: what comes out is a picture with a caption of its own or with the
captioner's.
"""

import json
import typing
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinymm import pretrained
from tinymm.arrays.errors import DataError, UsageError
from tinymm.arrays.files import atomic
from tinymm.arrays.random import generator
from tinymm.tasks import spec_of
from tinymm.training.evaluate_matching import image_tokens, itm_logits, write_captions
from tinymm.training.loop import TrainConfig, train
from tinymm.training.optimizers import AdamW
from tinymm.training.records import of_kind, read_results

from ..run_folder import finished
from ..terminal import doing, tell
from .figures import draw_capfilt
from .prepare import Plan

#: A caption is kept where the filter thinks it likelier true than not.
THRESHOLD = 0.5
#: The captioner draws its words (Table 3). The paper's p is 0.9, for surprising captions teach more
#: than safe ones; a drawn scene has two true captions and no surprises, and what 0.9 adds here is
#: mistakes.
TOP_P = 0.5
_BATCH = 256


@dataclass(frozen=True)
class Judged:
    """A caption of a web picture, whether the captioner has written it, and how likely the filter thinks it true."""

    picture: int
    caption: str
    written: bool
    probability: float

    @property
    def kept(self) -> bool:
        """Whether the caption passes the filter.

        >>> Judged(0, "a red star", False, 0.7).kept
        True
        """
        return self.probability > THRESHOLD


def tuning(recipe: TrainConfig, steps: int) -> TrainConfig:
    """Return how captioner and filter are tuned: with the model's batches and workers, for fewer `steps` and at half the rate."""
    return replace(
        recipe, steps=steps, warmup=min(20, steps), learning_rate=recipe.learning_rate / 2
    )


def fine_tuned(model: Any, people: Any, objectives: tuple[str, ...], recipe: TrainConfig) -> Any:
    """Return a copy of the model, trained on people's pairs by some of its losses: ("lm",) makes a captioner, ("itc", "itm") a filter."""
    tuned = deepcopy(model)
    optimizer = AdamW(tuned, weight_decay=0.05, betas=(0.9, 0.98), eps=1e-8)
    task = spec_of(tuned).task.with_options(objectives=objectives)
    for _ in train(tuned, people, optimizer, recipe, task=task):
        pass
    return tuned.eval()


def judge(
    captioner: Any, filter_: Any, source: Any, seed: int, say: Callable[[str], None] = tell
) -> list[Judged]:
    """Write a caption for each web picture and judge it and the picture's own ones; `seed` names the captioner's draws."""
    pictures, judged = source.web_pictures(), []
    for start in range(0, len(pictures), _BATCH):
        part = pictures[start : start + _BATCH]
        images = source.images(part)
        own = [(row, text, False) for row, i in enumerate(part) for text in source.texts[i]]
        drawn = write_captions(
            captioner, images, source.tokenizer, top_p=TOP_P, rng=generator(seed, 6, start)
        )
        asked = own + [(row, text, True) for row, text in enumerate(drawn) if text]
        if asked:  # not where pictures have no captions and the captioner says nothing of them
            rows = [row for row, _, _ in asked]
            logits = itm_logits(
                filter_,
                image_tokens(filter_, images)[rows],
                *source.tokenizer([text for _, text, _ in asked]),
            )
            chances = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
            judged += [
                Judged(int(part[row]), text, is_written, float(p))
                for (row, text, is_written), p in zip(asked, chances, strict=True)
            ]
        if start // _BATCH % 10 == 0:
            say(
                f"CapFilt: {min(start + _BATCH, len(pictures)):,} of {len(pictures):,} pictures captioned and judged"
            )
    return judged


def bootstrapped(source: Any, judged: list[Judged], *, written: bool = True) -> Any:
    """Return the data that is left: people's pairs, and of each web picture the captions that were kept, the written ones too unless said."""
    texts = list(source.texts)
    for i in {item.picture for item in judged}:
        texts[i] = ()
    for item in judged:
        if item.kept and (written or not item.written) and item.caption not in texts[item.picture]:
            texts[item.picture] += (item.caption,)
    return source.with_captions(texts)


def quality(source: Any, judged: list[Judged]) -> dict[str, float]:
    """Return how many captions were kept and, where the source knows the truth, what the filter was worth.

    "…_true" is the share of true captions before filtering, "…_precision" among the kept,
    "…_recall" the share of the true ones that were kept; "web" are the captions that the pictures
    came with, "written" the captioner's.
    """
    found: dict[str, float] = {}
    for name, is_written in (("web", False), ("written", True)):
        some = [item for item in judged if item.written == is_written]
        if not some:
            continue
        kept = np.array([item.kept for item in some])
        found |= {f"{name}_captions": float(len(some)), f"{name}_kept": float(kept.mean())}
        truths = [source.is_true(item.picture, item.caption) for item in some]
        if None not in truths:
            true = np.array(truths, bool)
            found[f"{name}_true"] = float(true.mean())
            found[f"{name}_precision"] = float(true[kept].mean()) if kept.any() else 0.0
            found[f"{name}_recall"] = float(kept[true].mean()) if true.any() else 0.0
    return found


def clean(
    model: Any, source: Any, recipe: TrainConfig, say: Callable[[str], None] = tell
) -> tuple[list[Judged], dict[str, float]]:
    """Run CapFilt with a model that was trained on noisy pairs: return what became of each caption, and `quality`.

    Captioner and filter are each tuned by the `recipe` on the pairs that people have looked at;
    where the source has none, the model itself is both. UsageError where nothing passes the filter.
    """
    captioner = filter_ = model.eval()
    people = source.by_people()
    if people is not None:
        say(
            f"CapFilt: captioner and filter are tuned for {recipe.steps} steps each on {sum(map(len, people.texts)):,} pairs that people have seen"
        )
        captioner = fine_tuned(model, people, ("lm",), replace(recipe, seed=recipe.seed + 1))
        filter_ = fine_tuned(model, people, ("itc", "itm"), replace(recipe, seed=recipe.seed + 2))
    judged = judge(captioner, filter_, source, recipe.seed, say)
    found = quality(source, judged)
    if not any(item.kept for item in judged):
        raise UsageError(
            f"CapFilt trains on captions that pass the filter, and none of {len(judged):,} does; train the first model for longer"
        )
    for name in ("web", "written"):
        if f"{name}_captions" not in found:
            say(f"CapFilt: no {name} captions came")
            continue
        truth = (
            f", of which {found[f'{name}_precision']:.0%} are true (before: {found[f'{name}_true']:.0%})"
            if f"{name}_true" in found
            else ""
        )
        say(
            f"CapFilt: {found[f'{name}_kept']:.0%} of {int(found[f'{name}_captions']):,} {name} captions are kept{truth}"
        )
    return judged, found


#: What became of each caption, a line each.
JUDGED = "captions.jsonl"


def with_noise(settings: Any, say: Callable[[str], None]) -> Any:
    """Return the settings of a run of CapFilt on web-shapes where they name shapes, and say so."""
    if not getattr(settings, "capfilt", False) or settings.data != "shapes":
        return settings
    say(
        "CapFilt cleans captions, and those of shapes are all right; it runs on web-shapes, of whose "
        "captions 40 % belong to another scene"
    )
    return replace(settings, data="web-shapes")


def filters(planned: Plan) -> bool:
    """Say whether a run cleans its captions first; UsageError where that cannot be."""
    settings = planned.settings
    on = any(item.name == "capfilt" for item in fields(settings)) and settings.capfilt
    if on and not planned.source.noisy:
        raise UsageError(
            f"--capfilt cleans captions that may be wrong, and those of {settings.data} are right; "
            "give --data web-shapes, or a folder"
        )
    if on and settings.init:
        raise UsageError(
            "--capfilt trains two models, each from scratch, and --init "
            f"{settings.init} came; leave one of them out"
        )
    return on


def filtered(
    planned: Plan, path: Path, train: Callable[..., Any], say: Callable[[str], None]
) -> tuple[Any, dict[str, Any]]:
    """Return the data that CapFilt leaves, and what results.json keeps of it.

    The first model is trained by `train` into the folder `noisy` of the run at `path`. What became
    of each caption is kept in captions.jsonl, so that a stopped run goes on.
    """
    source: Any = planned.source
    first, settings = path / "noisy", planned.settings
    if not finished(first):
        begun = str(first) if (first / "run.json").exists() else None
        say(f"CapFilt: a first model is trained on the data as it is, into {first}")
        command = f"train {planned.spec.name}: first model of CapFilt"
        train(replace(settings, capfilt=False), str(first), resume=begun, command=command, say=say)
    if not (path / JUDGED).exists():
        model = pretrained.load(first).to(settings.backend)
        with doing("CapFilt captions and judges"):
            recipe = tuning(planned.recipe, settings.tuning_steps)
            judged, _ = clean(model, source, recipe, say)
        with atomic(path / JUDGED) as file:
            file.writelines(json.dumps(asdict(item)).encode() + b"\n" for item in judged)
    judged = judged_in(path / JUDGED, len(source.texts))
    draw_capfilt(path, source, judged)
    found = {f"capfilt_{name}": value for name, value in quality(source, judged).items()}
    before = read_results(first)
    found |= {f"noisy_{name}": value for name, value in before.items() if name != "chance"}
    return bootstrapped(source, judged), found


def judged_in(path: Path, pictures: int) -> list[Judged]:
    """Return the captions that CapFilt has judged, one a line.

    DataError names a line that is none, or is of another image than the data's.
    """
    kinds = typing.get_type_hints(Judged)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            said = json.loads(line.decode("utf-8"))
            known = isinstance(said, dict) and said.keys() == kinds.keys()
            if not known or not all(of_kind(said[name], kind) for name, kind in kinds.items()):
                raise ValueError("no caption with its judgment")
            if not 0 <= said["picture"] < pictures:
                raise ValueError(f"picture {said['picture']} of {pictures}")
        except ValueError as problem:
            raise DataError(
                f"each line of {path.name} is a judged caption: line {number} of {path} is not "
                f"({problem}); delete the file"
            ) from None
        found.append(Judged(**said))
    return found
