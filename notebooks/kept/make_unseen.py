"""Write unseen.json from a run folder of `python -m tinymm demo`: what the site's live pictures of ten unseen characters need.

    python -m tinymm demo --out runs/demo
    python notebooks/kept/make_unseen.py runs/demo

It keeps the cosines before and after training, pictures in rows, the learned scale, and where the vision transformer looks in one of the pictures.
The pictures themselves are drawn from the package's own glyphs whenever the site is built.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import tinymm  # noqa: E402
from tinymm import pretrained  # noqa: E402
from tinymm.layers import record_attention  # noqa: E402
from tinymm.tasks import clip  # noqa: E402
from tinymm.training.evaluate import similarities  # noqa: E402
from tinymm.training.records import read_json  # noqa: E402
from tinymm.workflows.runs.figures import show_pairs  # noqa: E402
from tinymm.workflows.runs.prepare import plan  # noqa: E402

LOOKED_AT = 2  # of the ten: g with caron
DIGITS, WHOLE = 4, 10_000


def main(run: str) -> None:
    """Write unseen.json."""
    settings = clip.CLIPSettings(**read_json(Path(run) / "run.json")["settings"])
    planned = plan(clip.spec, settings, print)
    model, shown = pretrained.load(Path(run)), show_pairs(planned.source)
    words, texts = planned.source.tokenizer, list(shown.captions)
    found = (similarities(each.eval(), shown.images, texts, words) for each in (planned.model, model))
    before, after = (np.round(cosines.astype(float), DIGITS).tolist() for cosines in found)
    with record_attention() as maps:
        model.encode_image(shown.images[LOOKED_AT : LOOKED_AT + 1])
    record = {"command": "python -m tinymm demo", "edition": tinymm.__version__, "captions": list(shown.captions)}
    record |= {"before": before, "after": after, "scale": round(float(np.exp(model.t.data)), 3), "looked_at": LOOKED_AT}
    record["attention"] = [np.round(WHOLE * each[0].astype(float)).astype(int).tolist() for each in maps]
    (HERE / "unseen.json").write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
