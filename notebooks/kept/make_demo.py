"""Write demo.json from a run folder of `python -m tinymm demo`: its results, and every tenth loss of its curve.

    python -m tinymm demo --out runs/demo
    python notebooks/kept/make_demo.py runs/demo

The command of the record is the first of the two; the second adds nothing.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import tinymm  # noqa: E402
from tinymm.training.records import read_json, read_metrics  # noqa: E402

EVERY = 10


def main(run: str) -> None:
    """Write demo.json."""
    results, settings = read_json(Path(run) / "results.json"), read_json(Path(run) / "run.json")["settings"]
    curve = [[record["step"], round(record["loss"], 4)] for record in read_metrics(Path(run)) if record["step"] % EVERY == 1]
    numbers = {name: round(value, 4) for name, value in results.items() if isinstance(value, float)}
    record = {"command": "python -m tinymm demo", "edition": tinymm.__version__, "batch_size": settings["batch_size"], "steps": settings["steps"]}
    record |= {"chance": results["chance"], "results": numbers, "curve": curve}
    (HERE / "demo.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
