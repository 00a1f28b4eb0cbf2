"""What is measured of a model that matches or writes, while it is trained and when it is done: each number beside its chance level."""

from typing import Any

from tinymm.data.batches import Source
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.training import evaluate_matching as measures


def validated(model: Any, source: Source) -> dict[str, float]:
    """Return the columns of a validation: recall and matching, or captions of stage 2, on new pictures of known scenes."""
    pairs = source.validation()
    if len(pairs) < 2:
        return {}
    model.eval()
    if isinstance(model, BLIP2Stage2):
        return {"validation_captions_exact": measures.captions(model, pairs, source.tokenizer, source.references(pairs))["exact"]}
    found = measures.matching(model, pairs, source.tokenizer, thorough=False)
    return {"validation_r1": found["itc_r1"], "validation_itm_accuracy": found["itm_accuracy"]}


def measure(model: Any, source: Source) -> dict[str, Any]:
    """Return what results.json holds: each honest test, swapped captions, and the chance levels under "chance"."""
    results: dict[str, Any] = {}
    chance: dict[str, float] = {}
    model.eval()
    for name, pairs in (source.tests() or {"validation": source.validation()}).items():
        true = source.references(pairs)
        if isinstance(model, BLIP2Stage2):
            written = measures.captions(model, pairs, source.tokenizer, true)
            found: dict[str, Any] = {f"captions_{key}": value for key, value in written.items()}
            levels = dict.fromkeys(found, 0.0)
        else:
            found = measures.matching(model, pairs, source.tokenizer, references=true)
            levels = found.pop("chance")
        results |= {f"{name}_{key}": value for key, value in found.items()}
        chance |= {f"{name}_{key}": value for key, value in levels.items()}
    if not isinstance(model, BLIP2Stage2) and (swapped := source.swaps()):
        found = measures.swaps(model, swapped, source.tokenizer)
        results |= found
        chance |= dict.fromkeys(found, 0.5)
    return results | {"chance": chance}
