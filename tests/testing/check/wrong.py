"""Planted mistakes, each a function that looks right and breaks a property; run as a script to print the tables of causes.

`python wrong.py` prints the rows of `tinymm/testing/causes.py`, `python wrong.py blip2` those of
`causes_blip2.py`, `python wrong.py momentum` those of `causes_momentum.py`, and `python wrong.py
models` those of `causes_models.py`. `python wrong.py times` prints the processor's seconds for 100
cases of each suite.
"""

import sys

from wrong_attention import ATTENTION, LAYER_NORM, LOG_SOFTMAX, MASKED_SOFTMAX, SOFTMAX
from wrong_contrastive import CONTRASTIVE, RECALL, TEMPERATURE
from wrong_ema import EMA
from wrong_language import LM_LOSS
from wrong_masking import MLM_MASKING
from wrong_masks import ALGEBRA, CAUSAL, PADDING, PREFIX, REACH
from wrong_matching import HARD_NEGATIVES, ITM_LOSS, ITM_PAIRS
from wrong_models import NO_LEAK, VJP
from wrong_momentum import ITC_QUEUE, SOFT_TARGETS
from wrong_qformer import MAX_OVER_QUERIES, QFORMER_MASKS
from wrong_queue import QUEUE
from wrong_sigmoid import SIGMOID_LOSS

BASIC = {
    "causal_mask": CAUSAL,
    "padding_mask": PADDING,
    "prefix_mask": PREFIX,
    "mask_algebra": ALGEBRA,
    "reachability": REACH,
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "masked_softmax": MASKED_SOFTMAX,
    "attention": ATTENTION,
    "layer_norm": LAYER_NORM,
    "contrastive_loss": CONTRASTIVE,
    "recall": RECALL,
    "temperature": TEMPERATURE,
}
BLIP2 = {
    "qformer_masks": QFORMER_MASKS,
    "max_over_queries": MAX_OVER_QUERIES,
    "hard_negatives": HARD_NEGATIVES,
    "itm_pairs": ITM_PAIRS,
    "itm_loss": ITM_LOSS,
    "lm_loss": LM_LOSS,
}
MOMENTUM = {
    "sigmoid_loss": SIGMOID_LOSS,
    "soft_targets": SOFT_TARGETS,
    "itc_queue": ITC_QUEUE,
    "mlm_masking": MLM_MASKING,
    "ema": EMA,
    "queue": QUEUE,
}
MODELS = {"no_leak": NO_LEAK, "vjp": VJP}
GROUPS = {"basic": BASIC, "blip2": BLIP2, "momentum": MOMENTUM, "models": MODELS}
WRONG = BASIC | BLIP2 | MOMENTUM | MODELS


def broken_by(suite, contract, examples):
    """Return the ids of the properties that a function breaks, without looking for the smallest input."""
    from tinymm.testing import check

    contract = dict(contract)
    one = check.CHECKS[suite]
    promised = one.promise(contract.pop("fn"), contract)
    return tuple(one.suite.findings(promised, one.suite.select(promised, "strict")[0], examples))


def times():
    """Print the seconds that 100 cases of each suite take, drawing included."""
    from time import process_time

    from kept import RIGHT

    from tinymm.testing import check

    for suite, one in check.CHECKS.items():
        one(**RIGHT[suite]["plain"], examples=5)
        start = process_time()
        one(**RIGHT[suite]["plain"], examples=100)
        print(f"{suite:<18} {process_time() - start:.2f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["times"]:
        sys.exit(times())
    for suite, mistakes in GROUPS[(sys.argv[1:] or ["basic"])[0]].items():
        print(f'    "{suite}": {{')
        for name, contract in mistakes.items():
            print(f'        "{name}": "{" ".join(broken_by(suite, contract, 100))}",')
        print("    },")
