"""The cheat sheet of evaluation: each metric with its chance level, computed, beside what the kept run of `demo` has."""

import json
import math

import numpy as np
from tree import ROOT

from tinymm.losses import ITM_PRIOR
from tinymm.training.evaluate import recall_at_k, swap_accuracy

INTRODUCTION = """# Cheat sheet: evaluation

{{.sheet}}
A number without its chance level says nothing. The last column is the kept run of `{command}` ({steps:,} steps, batches of {batch_size}).

| metric | question | chance | demo |
|---|---|---|---|
"""
END = """
- **Ties.** A collapsed model scores everything alike. Counted for the model it would have 1; here it has {tied:g}, and `ties="expected"` gives it
  chance, {alike:.3f}.
- **Duplicates.** A picture with several captions is found by any of them; equal captions of other pictures are also right: pass `is_match`.
- **Order, not size.** Compare scores within a row. The cosine of right pairs depends on the modality gap, BLIP-2's on its maximum over queries.
- **Validation chooses, the test is looked at once.** Characters, faces or scenes of the test are in no training batch.
- **A control beside the number**: shuffled pairs, a blank picture, the text alone, the nearest picture pixel by pixel.
- **A loss is no metric.** A leak lowers the loss; look at the words. A loss depends on n, on the scale and on the queue.
- **Zero-shot** says that the task's labels were not trained on, not that its things are unseen. Say what was held out.
- **How sure?** A share p of N has a standard error of √(p(1 − p)/N): {error:.3f} for {share:.2f} of {pairs}.
"""


def rows(found: dict, chance: dict, pairs: int) -> list[tuple[str, ...]]:
    """Return the table's rows for the results of a run and their chance levels."""
    flat = np.zeros((pairs, pairs))
    alike = ", ".join(f"{recall_at_k(flat, k, ties='expected'):.3f}" for k in (1, 5, 10))
    best = f"R@1 {found['unseen_characters_r1']:.2f}, R@5 {found['unseen_characters_text_to_image_r5']:.2f}: unseen characters"
    ways = f"{found['unseen_characters_image_to_text_r1']:.2f} and {found['unseen_characters_text_to_image_r1']:.2f}"
    among = f"{chance['unseen_characters_all_r1']:.3f}", f"{found['unseen_characters_all_r1']:.2f}"
    classes = f"1/C: {chance['zero_shot_script']:.2f} of 5, {chance['zero_shot_case']:.2f} of 2"
    largest = f"largest class: {chance['probe_script']:.2f}, {chance['probe_case']:.2f}"
    zero, probe = (
        f"script {found[f'{task}_script']:.2f}, case {found[f'{task}_case']:.2f}"
        for task in ("zero_shot", "probe")
    )
    swapped = swap_accuracy(np.zeros(4), np.zeros(4))
    return [
        (
            "recall at k",
            "is the right one among the k best?",
            "recall_at_k",
            f"k/N: {alike} of N = {pairs}",
            best,
        ),
        (
            "both directions",
            "picture to text, text to picture",
            "retrieval",
            f"{chance['unseen_characters_r1']:.3f}",
            ways,
        ),
        ("distractors", "the same, among all names", "recalls", *among),
        ("zero-shot accuracy", "which class, told by its name?", "zero_shot", classes, zero),
        ("linear probe", "what do frozen features hold?", "linear_probe", largest, probe),
        (
            "swaps",
            "does it know the order of words?",
            "swap_accuracy",
            f"{swapped:.2f}; a bag of words has exactly that",
            "–",
        ),
        (
            "ITM accuracy",
            "a pair, or a hard negative?",
            "matching",
            f"{2 / 3:.3f}, saying no to all; loss {ITM_PRIOR:.4f}",
            "–",
        ),
        ("re-ranking", "ITM judges ITC's best", "rerank", "that of recall", "–"),
        ("perplexity", "among how many words does it hesitate?", "perplexity", "V", "–"),
    ]


def sheet() -> str:
    """Return the page."""
    kept, pairs = (
        json.loads((ROOT / "notebooks" / "kept" / "demo.json").read_text(encoding="utf-8")),
        150,
    )
    share, flat = kept["results"]["unseen_characters_r1"], np.zeros((pairs, pairs))
    text = INTRODUCTION.format(**kept)
    for name, question, function, level, has in rows(kept["results"], kept["chance"], pairs):
        text += f"| **{name}**<br>`{function}` | {question} | {level} | {has} |\n"
    alike, error = recall_at_k(flat, 1, ties="expected"), math.sqrt(share * (1 - share) / pairs)
    return text + END.format(
        tied=recall_at_k(flat, 1), alike=alike, error=error, share=share, pairs=pairs
    )
