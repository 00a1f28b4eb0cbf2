"""What is measured of a model, by its abilities: while it is trained, and when it is done.

A model that contrasts is asked for retrieval, and where the data has classes, for zero-shot
classification and a linear probe; one that matches, for re-ranked retrieval and the hardest
negatives; one that writes or fills masks, for its words. Each number is beside its chance level.
"""

from typing import Any

import numpy as np

from tinymm.data.batches import PairSet, Source
from tinymm.tasks import CONTRAST, GENERATE, MATCH, spec_of
from tinymm.training import evaluate_matching as measures
from tinymm.training.evaluate import (
    embed_images,
    embed_texts,
    linear_probe,
    retrieval,
    swap_accuracy,
    zero_shot,
)
from tinymm.training.loop import TrainConfig, batch_at

DIRECTIONS = ("r1", "image_to_text_r1", "text_to_image_r1")


def validated(model: Any, source: Source) -> dict[str, float]:
    """Return the validation's columns of a record; none where the source keeps fewer than 2 back."""
    pairs, able = source.validation(), spec_of(model).able(model)
    if len(pairs) < 2:
        return {}
    model.eval()
    if {CONTRAST, MATCH} <= able:
        found = measures.matching(model, pairs, source.tokenizer, thorough=False)
        recalls = {f"validation_{name}": found[f"itc_{name}"] for name in DIRECTIONS}
        return recalls | {"validation_itm_accuracy": found["itm_accuracy"]}
    if CONTRAST in able:
        found = retrieval(model, pairs, source.tokenizer)
        return {f"validation_{name}": found[name] for name in DIRECTIONS}
    if GENERATE in able:
        true = source.references(pairs)
        written = measures.captions(model, pairs, source.tokenizer, true)
        return {"validation_captions_exact": written["exact"]}
    return {}


def measure(model: Any, source: Source, settings: Any = None) -> dict[str, Any]:
    """Return what results.json holds: each held-out set, and the chance levels under "chance".

    The same model gives the same numbers; nothing here depends on the time. With the `settings` of
    a run, those pairs are measured, too, that `--overfit` trained on.
    """
    able = spec_of(model).able(model)
    results: dict[str, Any] = {}
    chance: dict[str, float] = {}
    model.eval()
    for name, pairs in _sets(able, source, settings).items():
        if len(pairs) < 2:
            continue
        found = _of_pairs(model, able, pairs, source)
        results |= {f"{name}_{key}": value for key, value in found.items() if key != "chance"}
        chance |= {f"{name}_{key}": value for key, value in found["chance"].items()}
    for part in (_swaps, _classes):
        found = part(model, able, source)
        chance |= found.pop("chance", {})
        results |= found
    return results | {"chance": chance}


def _sets(able: frozenset[str], source: Source, settings: Any) -> dict[str, PairSet]:
    """Return what is measured: the tests, and the validation where that is quick or there are none."""
    tests = source.tests()
    quick = not able & {MATCH, GENERATE}
    sets = {"validation": source.validation(), **tests} if quick or not tests else dict(tests)
    if settings is not None and settings.overfit:
        sets["overfit"] = trained_pairs(source, settings)
    return sets


def trained_pairs(source: Source, settings: Any) -> PairSet:
    """Return the pairs that `--overfit` trains on, as their batches hold them."""
    recipe = TrainConfig(
        1, batch_size=settings.batch_size, seed=settings.seed, overfit=settings.overfit
    )
    count = min(settings.overfit, len(source))
    steps = count // min(settings.batch_size, count)
    batches = [batch_at(source, recipe, step) for step in range(steps)]
    captions = [caption for batch in batches for caption in batch.captions]
    images = np.concatenate([batch.images for batch in batches])
    return PairSet(images, captions, np.arange(len(captions)))


def _of_pairs(model: Any, able: frozenset[str], pairs: PairSet, source: Source) -> dict[str, Any]:
    if MATCH in spec_of(model).can:  # of one whose file lacks the head, what else there is
        true = source.references(pairs)
        return measures.matching(model, pairs, source.tokenizer, references=true)
    if CONTRAST in able:
        found = dict(retrieval(model, pairs, source.tokenizer))
        return found | {"chance": {"r1": found.pop("chance_r1")}}
    if GENERATE in able:
        written = measures.captions(model, pairs, source.tokenizer, source.references(pairs))
        found = {f"captions_{key}": value for key, value in written.items()}
        return found | {"chance": dict.fromkeys(found, 0.0)}
    return {"chance": {}}


def _swaps(model: Any, able: frozenset[str], source: Source) -> dict[str, Any]:
    """Return how often the right caption is above one with parts of it swapped."""
    swapped = source.swaps() if CONTRAST in able else {}
    if MATCH in able:
        found = measures.swaps(model, swapped, source.tokenizer)
    else:
        found = {}
        for kind, some in swapped.items():
            features = embed_images(model, some.images)
            right, wrong = (
                np.sum(features * embed_texts(model, list(texts), source.tokenizer), axis=1)
                for texts in (some.right, some.wrong)
            )
            found[f"swap_{kind.replace(' ', '_')}"] = swap_accuracy(right, wrong)
    return found | {"chance": dict.fromkeys(found, 0.5)}


def _classes(model: Any, able: frozenset[str], source: Source) -> dict[str, Any]:
    """Return zero-shot accuracy and that of a linear probe for each task of named classes."""
    found: dict[str, Any] = {}
    chance: dict[str, float] = {}
    for name, task in source.zero_shot().items() if CONTRAST in able else ():
        named = zero_shot(model, task, source.tokenizer)
        found[f"zero_shot_{name}"] = named["mean_class_accuracy"]
        chance[f"zero_shot_{name}"] = named["chance"]
        features = embed_images(model, task.images)
        features = features.reshape(len(features), -1)  # of all queries, where a model has several
        fold = np.arange(len(features)) % 2 == 0
        found[f"probe_{name}"] = linear_probe(
            features[fold], task.targets[fold], features[~fold], task.targets[~fold]
        )
        largest = np.bincount(task.targets[~fold]).max() / (~fold).sum()
        chance[f"probe_{name}"] = float(largest)
    return found | {"chance": chance}
