"""`ablate blip`: what wrong captions cost, and what CapFilt brings back of it: the same BLIP on four versions of the same pictures.

The captions of `web-shapes`: all true; as they came, a share of them another scene's; only those
that the filter keeps; and with the captioner's. People's few pairs are in all four. Every row is
the same model from the same seed for the same steps; the first model of CapFilt is the second
row's.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinymm.data.builtin.web_pairs import WebPairs
from tinymm.tasks import blip
from tinymm.training.records import write_json

from ..measure import measure
from ..runs import capfilt
from ..runs.figures import draw_capfilt
from ..runs.prepare import Plan, plan
from ..runs.run import trained
from ..sources import framed
from ..terminal import doing, head, row, tell

#: Column → the result that it is made of; larger is better, but for the perplexity.
COLUMNS = {
    "ITC R@1": "held_out_itc_r1", "ITM re-ranked R@1": "held_out_itm_reranked_r1", "ITM accuracy": "held_out_itm_accuracy",
    "LM perplexity": "held_out_lm_perplexity", "captions exact": "held_out_lm_captions_exact", "attribute swaps, ITM": "swap_attribute_itm",
    "relation swaps, ITM": "swap_relation_itm",
}  # fmt: skip
ROWS = ("all true", "as they came", "filtered", "CapFilt")


def run(
    out: str | None = None,
    *,
    steps: int = 500,
    wrong: float = 0.4,
    seed: int = 0,
    workers: int | None = None,
    backend: str = "numpy",
    say: Callable[[str], None] = tell,
) -> dict[str, Any]:
    """Train the four rows, print the table and how much of the noise's cost each step of CapFilt recovers, and return them.

    With `out`, a JSON file, they are written there, and a picture of examples, capfilt.png, beside
    it.
    """
    settings = blip.BLIPSettings(
        data="web-shapes", steps=steps, seed=seed, workers=workers, backend=backend
    )
    noisy, true = (framed(WebPairs(seed, wrong=share), blip.spec.frame) for share in (wrong, 0.0))
    table: dict[str, dict[str, float]] = {}
    say(head(14, list(COLUMNS)))

    def train_row(name: str, source: Any) -> tuple[Plan, Any]:
        planned = plan(blip.spec, settings, say, source=source)
        with doing(f"training and measuring: {name}"):
            model = trained(planned)
            results = measure(model, source)
        table[name] = {column: results[key] for column, key in COLUMNS.items()}
        say(row(14, name, table[name].values()))
        return planned, model

    train_row(ROWS[0], true)
    planned, first = train_row(ROWS[1], noisy)
    with doing("CapFilt captions and judges"):
        recipe = capfilt.tuning(planned.recipe, settings.tuning_steps)
        judged, quality = capfilt.clean(first, noisy, recipe, say)
    train_row(ROWS[2], capfilt.bootstrapped(noisy, judged, written=False))
    train_row(ROWS[3], capfilt.bootstrapped(noisy, judged))
    shares = {name: recovered(table, name) for name in ROWS[2:]}
    for name, share in shares.items():
        say(
            f"{name} recovers of what the noise cost: "
            + ", ".join(f"{column} {value:.0%}" for column, value in share.items())
        )
    found = {
        "settings": asdict(settings) | {"wrong": wrong},
        "rows": table,
        "recovered": shares,
        "capfilt": quality,
    }
    if out:
        write_json(out, found)
        draw_capfilt(Path(out).parent, noisy, judged)
    return found


def recovered(table: dict[str, dict[str, float]], name: str) -> dict[str, float]:
    """Return, for each column in which noise cost something (more than 0.02), which share of it a row has won back.

    >>> recovered({"all true": {"R@1": 0.8}, "as they came": {"R@1": 0.4}, "CapFilt": {"R@1": 0.7}}, "CapFilt")
    {'R@1': 0.75}
    """
    shares = {}
    for column, best in table["all true"].items():
        cost = best - table["as they came"][column]
        if (-cost if "perplexity" in column else cost) > 0.02:
            shares[column] = round(
                float((table[name][column] - table["as they came"][column]) / cost), 4
            )
    return shares
