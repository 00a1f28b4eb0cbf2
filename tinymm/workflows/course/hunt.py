"""Bug hunt: a student gets a right function and some wrong ones, and hands in a property that tells them apart.

A property is `holds(fn)`: it raises, or returns False, for a function that breaks it. Its score is
the share of the wrong functions that it catches, of the whole list and not only of those handed
out, and 0 if it fails a right one. Comparing with one's own solution scores as well where only one
answer is right; so read the property, too.
"""

import csv
import hashlib
import io
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.files import atomic

from .. import commands
from . import exercises, hunt_lists, percent
from .hunt_judge import SECONDS, judged

TASK = """\
# %% [markdown]
# # Bug hunt · {check} · {student}
#
# Below stand a right function and {count} wrong ones. Write a property: `holds(fn)` raises, or returns False, if `fn` breaks it, and is silent
# for every right function, also for one that looks unusual. Points are the share of wrong functions that it catches, of a longer list than yours,
# and none at all if it fails a right one. Draw your cases; say in its docstring what must be true and why. Hand in this file.
#
# What the function promises: {promise}

# %%
{functions}


right = {right}

# %%
def holds(fn):
    \"\"\"Say in one sentence what is true of every right function.\"\"\"
    raise NotImplementedError("your property")


# %%
if __name__ == "__main__":
    for name in ("right", {names}):
        try:
            passed = holds(globals()[name]) in (None, True)
        except Exception as found:
            passed = False
            print(f"{{name}}: {{type(found).__name__}}: {{found}}")
        print(f"{{name}} {{'passes' if passed else 'is caught'}}")
"""


@dataclass(frozen=True)
class Score:
    """What a submission reached: of the wrong functions how many it caught, of the right ones how many it let pass."""

    submission: str
    caught: int
    wrong: int
    passed: int
    right: int
    remark: str

    @property
    def points(self) -> float:
        """The share of wrong functions caught, or 0 if a right one was."""
        return self.caught / self.wrong if self.wrong and self.passed == self.right else 0.0


def write(
    check: str, student: str, out: str | Path, *, wrong: int = 4, notebook: bool = False
) -> Path:
    """Write a student's hunt of a check to `out` and return the file; the same id gets the same functions.

    UsageError for an id that makes no file name, more wrong functions than there are, and a file
    that is there already.
    """
    if not re.fullmatch(r"[\w.-]{1,60}", student):
        raise UsageError(
            f"a student's id becomes part of a file's name, 1 to 60 letters, digits and _ . -, and {student!r} came; shorten it"
        )
    kept, planted = hunt_lists.functions(check)
    if not 1 <= wrong <= len(planted):
        raise UsageError(
            f"a hunt of {check} hands out 1 to {len(planted)} wrong functions, and {wrong} came; choose a number between"
        )
    seed = int.from_bytes(hashlib.sha256(f"{check}/{student}".encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).permutation(sorted(planted))[:wrong]
    text = hunt_lists.Text()
    plain = kept["plain"]
    text.add_function(plain.__module__, plain.__name__)
    names = [f"wrong_{i}" for i in range(1, wrong + 1)]
    for name, mistake in zip(names, drawn, strict=True):
        text.add_mistake(check, str(mistake), name)
    said = TASK.format(
        check=check,
        student=student,
        count=wrong,
        promise=_promise(check),
        functions=text.written(),
        right=plain.__name__,
        names=", ".join(f'"{name}"' for name in names),
    )
    path = Path(out) / f"hunt_{check}_{student}.{'ipynb' if notebook else 'py'}"
    if path.exists():
        raise UsageError(
            f"a hunt overwrites nobody's work, and {path} is there already with {path.stat().st_size} bytes; choose another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(
            (percent.dumps(percent.notebook(percent.parse(said))) if notebook else said).encode()
        )
    print(path)
    return path


def _promise(check: str) -> str:
    """Return the first paragraph of a contract's docstring, as the text of a cell."""
    from tinymm.testing.check import CHECKS

    words = " ".join((CHECKS[check].contract.__doc__ or "").split("\n\n")[0].split())
    return "\n# ".join(textwrap.wrap(words, 140))


def grade(
    check: str, files: list[str], *, seconds: float = SECONDS, csv_file: str | None = None
) -> list[Score]:
    """Score each submission in a process of its own; print a table, and write it to `csv_file` if asked. Return the scores."""
    kept, planted = hunt_lists.functions(check)
    scores = []
    for file in files:
        found = judged(check, file, seconds)
        verdicts = found.get("verdicts", {})
        missed = [name for name in planted if not verdicts.get(f"wrong/{name}")]
        failed = {name: verdicts.get(f"right/{name}", "not reached") for name in kept}
        failed = {name: said for name, said in failed.items() if said}
        if "problem" in found:
            remark = found["problem"]
        elif failed:
            name, said = next(iter(failed.items()))
            remark = f"fails a right function ({name}: {said})"
        else:
            remark = (
                f"misses {', '.join(missed[:3])}{' …' if len(missed) > 3 else ''}"
                if missed
                else "catches all"
            )
        counts = (
            (0, 0) if "problem" in found else (len(planted) - len(missed), len(kept) - len(failed))
        )
        scores.append(Score(file, counts[0], len(planted), counts[1], len(kept), remark))
    print("\n".join(table(scores)))
    if csv_file:
        _write_csv(Path(csv_file), scores)
    return scores


def table(scores: list[Score]) -> list[str]:
    """Return the lines of a table of scores."""
    width = max([len(score.submission) for score in scores] + [10])
    lines = [f"{'submission':<{width}}  score  caught  right passed  remark"]
    for one in scores:
        caught, passed = f"{one.caught}/{one.wrong}", f"{one.passed}/{one.right}"
        lines.append(
            f"{one.submission:<{width}}  {one.points:5.2f}  {caught:>6}  {passed:>12}  {one.remark}"
        )
    return lines


def _write_csv(path: Path, scores: list[Score]) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["submission", "score", "caught", "wrong", "passed", "right", "remark"])
    writer.writerows(
        [
            one.submission,
            f"{one.points:.4f}",
            one.caught,
            one.wrong,
            one.passed,
            one.right,
            one.remark,
        ]
        for one in scores
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(lines.getvalue().encode())


# ---------------------------------------------------------------------- the command
PLACE = 122


def declare(parsers: Any) -> None:
    """Add course hunt."""
    said = "write a bug hunt for a student (a right function and wrong ones), or grade the properties handed in"
    hunt = commands.add(
        exercises.course(parsers),
        "hunt",
        said,
        "course hunt causal_mask --student ada --out hunts",
        _command,
    )
    hunt.add_argument("check", help="the check whose functions are hunted, such as causal_mask")
    hunt.add_argument(
        "--student", metavar="ID", help="who hunts; the same id gets the same functions"
    )
    hunt.add_argument(
        "--out", metavar="FOLDER", help="where the hunt is written (default: the current folder)"
    )
    hunt.add_argument(
        "--wrong",
        type=int,
        default=4,
        metavar="K",
        help="how many wrong functions are handed out (default: 4)",
    )
    hunt.add_argument(
        "--notebook", action="store_true", help="write a notebook instead of a .py file"
    )
    hunt.add_argument(
        "--grade",
        nargs="+",
        metavar="FILE",
        help="score these submissions, .py or .ipynb, each in a process of its own",
    )
    hunt.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="S",
        help="time for each submission (default: 20)",
    )
    hunt.add_argument("--csv", metavar="FILE", help="write the scores to this file too")


def _command(check: str, **options: Any) -> None:
    student, files = options["student"], options["grade"]
    if bool(student) == bool(files):
        both = "both" if files else "neither"
        raise UsageError(
            f"course hunt writes for a student or grades files, and {both} came; give --student ID or --grade FILE"
        )
    if files:
        grade(check, files, seconds=options["seconds"], csv_file=options["csv"])
    else:
        write(
            check,
            student,
            options["out"] or ".",
            wrong=options["wrong"],
            notebook=options["notebook"],
        )
