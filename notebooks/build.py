"""Build the notebooks: NN_name.py, the source, is executed and becomes NN_name.ipynb with outputs, the same bytes each time.

    python notebooks/build.py              all of them
    python notebooks/build.py 07 08        some
    python notebooks/build.py --check      execute, write nothing, and compare the printed text with what is committed

Everything that differs from run to run is kept out: threads of the matrix library, progress bars, dates, versions; a cell that writes to stderr
(a warning) fails. Needs the extra `notebooks`. The time of each notebook is printed here and stands in none of them.
"""

import argparse
import json
import os
import re
import sys
import time
from itertools import zip_longest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tinymm.workflows.course import percent  # noqa: E402

LIMIT = 60  # seconds a notebook may take on two cores
#: One thread, so that sums are added in one order; no bars; and the tinymm of this checkout, whatever is installed.
QUIET = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"),
    "TQDM_DISABLE": "1",
    "PYTHONHASHSEED": "0",
    "TINYMM_BUDGET": "inf",  # trainings run to their end, however slow the machine is
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONPATH": str(HERE.parent),
}
_NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def execute(source: Path) -> dict:
    """Run a source and return its notebook with outputs: streams in one piece, figures with their alt text."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.reads(percent.dumps(percent.notebook(percent.read(source))), as_version=4)
    quiet = ["--log-level=ERROR"]  # what a kernel says of itself on the terminal
    client = NotebookClient(made, timeout=600, record_timing=False, extra_arguments=quiet, resources={"metadata": {"path": str(source.parent)}})
    client.execute(env=os.environ | QUIET)
    made = json.loads(nbformat.writes(made))
    made["metadata"]["language_info"] = {"name": "python"}
    for cell in made["cells"]:
        if "outputs" in cell:
            cell["outputs"] = joined(cell["outputs"])
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise SystemExit(f"{source.name}: a cell wrote to stderr; notebooks show no warnings:\n{''.join(output['text'])}")
            figure = output.get("metadata", {}).get("image/png")
            if figure:  # where the docs look for it, and nbconvert for that of the output
                cell["metadata"]["mystnb"] = {"image": {"alt": " ".join(figure["alt"].split())}}
    return made


def joined(outputs: list[dict]) -> list[dict]:
    """Return outputs with neighboring pieces of a stream in one: where a print is cut is a matter of time."""
    found: list[dict] = []
    for output in outputs:
        if found and output["output_type"] == "stream" and found[-1].get("name") == output["name"]:
            text = "".join(found[-1]["text"]) + "".join(output["text"])
            found[-1] = output | {"text": text.splitlines(keepends=True)}
        else:
            found.append(output)
    return found


def printed(made: dict) -> list[str]:
    """Return the printed text of each code cell, figures by their alt text."""
    found = []
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            pieces = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
            found.append("\n".join("".join(piece).rstrip() for piece in pieces))
    return found


def differences(old: list[str], new: list[str]) -> list[str]:
    """Return where two notebooks' texts differ: words must be equal, and numbers nearly so, since other processors add in another order.

    Nearly is a tenth of the number, or 0.02: more than rounding grows to in a short training, less than any finding of the course.
    """
    said = []
    for place, (a, b) in enumerate(zip_longest(old, new, fillvalue="(no cell)"), 1):
        same = [re.sub(r"\s+", " ", _NUMBER.sub("#", text)).strip() for text in (a, b)]
        numbers = [[float(n.replace("−", "-")) for n in _NUMBER.findall(text)] for text in (a, b)]
        close = len(numbers[0]) == len(numbers[1]) and all(abs(x - y) <= 0.1 * max(abs(x), abs(y)) + 0.02 for x, y in zip(*numbers, strict=True))
        if same[0] != same[1] or not close:
            said.append(f"code cell {place}\n  committed: {a}\n  now:       {b}")
    return said


def main(arguments: list[str] | None = None) -> int:
    """Build or check, print the seconds of each notebook, and return 1 if anything differs or takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NN", help="notebooks by the beginning of their names (default: all)")
    parser.add_argument("--check", action="store_true", help="compare the printed text with the committed notebooks, and write nothing")
    parser.add_argument("--source", type=Path, default=HERE, metavar="FOLDER", help="where the sources are (default: this folder)")
    options = parser.parse_args(arguments)
    sources = [path for path in sorted(options.source.glob("[0-9][0-9]_*.py")) if not options.names or path.name.startswith(tuple(options.names))]
    failed, total = not sources, 0.0
    for source in sources:
        begun = time.perf_counter()
        made, target = execute(source), source.with_suffix(".ipynb")
        took = time.perf_counter() - begun
        total += took
        print(f"{source.stem}: {took:.1f} s" + (f", over {LIMIT} s" if took > LIMIT else ""), flush=True)
        if not options.check:
            target.write_text(percent.dumps(made), encoding="utf-8")
        elif wrong := differences(printed(json.loads(target.read_text(encoding="utf-8"))), printed(made)):
            failed = True
            print("\n".join(wrong), flush=True)
    print(f"{len(sources)} notebook{'s' * (len(sources) != 1)}: {total:.1f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
