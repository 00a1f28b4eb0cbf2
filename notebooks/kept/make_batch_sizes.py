"""Batch sizes at an equal number of pictures: small CLIPs on glyphs, each batch size at the best of four learning rates, over three seeds.

    python notebooks/kept/make_batch_sizes.py

The rate is chosen by the validation set (seed 0), the numbers are those of the 150 unseen characters. About ten minutes on one core.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import tinymm  # noqa: E402
from tinymm.tasks import clip  # noqa: E402
from tinymm.training.evaluate import retrieval  # noqa: E402
from tinymm.training.loop import TrainConfig, train  # noqa: E402
from tinymm.training.optimizers import AdamW  # noqa: E402
from tinymm.workflows.runs.prepare import plan  # noqa: E402

PICTURES = 38_400
SIZES, RATES, SEEDS = (16, 64, 256), (1e-3, 2e-3, 4e-3, 8e-3), (0, 1, 2)


def run(batch_size: int, rate: float, seed: int) -> dict[str, float]:
    """Train one model and return its loss over the last tenth of the steps, and its recall."""
    planned = plan(clip.spec, clip.CLIPSettings(width=32, embed_dim=32, layers=2, seed=seed), print)
    data, model = planned.source, planned.model
    steps = PICTURES // batch_size
    recipe = TrainConfig(steps, batch_size=batch_size, learning_rate=rate, warmup=steps // 15, seed=seed)
    losses = [record["loss"] for record in train(model, data, AdamW(model, weight_decay=0.05, betas=(0.9, 0.98), eps=1e-8), recipe)]
    found = {"loss": float(np.mean(losses[-(steps // 10) :])), "validation": retrieval(model, data.validation(), data.tokenizer)["r1"]}
    found["unseen_characters"] = retrieval(model, data.tests()["unseen_characters"], data.tokenizer)["r1"]
    print(batch_size, rate, seed, found, flush=True)
    return found


def main() -> None:
    """Write batch_sizes.json."""
    sizes = {}
    for batch_size in SIZES:
        first = {rate: run(batch_size, rate, 0) for rate in RATES}
        best = max(first, key=lambda rate: first[rate]["validation"])
        seeds = [first[best], *(run(batch_size, best, seed) for seed in SEEDS[1:])]
        sizes[batch_size] = {"rate": best, **{name: [round(one[name], 4) for one in seeds] for name in seeds[0]}}
    record = {"command": "python notebooks/kept/make_batch_sizes.py", "edition": tinymm.__version__, "pictures": PICTURES, "sizes": sizes}
    (HERE / "batch_sizes.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
