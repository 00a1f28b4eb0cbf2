"""Shape comments that are executed: `qkv = self.qkv(x)  # (B, T, 3*D)` is a claim, and this tracer holds the line to it.

A comment in round brackets at the end of an assignment or a return is compared with the value
whenever the line runs. Its letters are bound once a call of the function: by an integer variable of
that name where there is one, else by the first shape that has the letter. `# each (…)` speaks of
every value of a tuple, `# (B, T), (B, D)` of one after the other, `...` of any axes in front; an
axis may be a product or a sum such as `3*D` or `P+1`.
"""

import ast
import re
import sys
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COMMENT = re.compile(r"#\s*(?P<each>each\s+)?(?P<shapes>\([^()]*\)(?:,\s*\([^()]*\))*)")
AXIS = re.compile(
    r"\.\.\.|…|[A-Za-z][A-Za-z0-9]?(?:[a-z0-9])?(?:\s*[-+*/]+\s*\w+)*|\d+(?:\s*[-+*/]+\s*\w+)*"
)


@dataclass(frozen=True)
class Claim:
    """A statement with its comment: the assigned expression (None for a return) and the axes that it is said to have."""

    path: str
    line: int
    lines: range
    target: str | None
    each: bool
    shapes: tuple[tuple[str, ...], ...]


def claims_of(path: Path) -> list[Claim]:
    """Return the shape comments of a file; one that stands at the end of anything but an assignment or a return is an error."""
    source = path.read_text()
    statements = [
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return))
    ]
    found = []
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if (
                token.type != tokenize.COMMENT
                or not token.line[: token.start[1]].strip()
                or not (match := COMMENT.match(token.string))
            ):
                continue
            shapes = tuple(
                tuple(axis.strip() for axis in text.split(",") if axis.strip())
                for text in re.findall(r"\(([^()]*)\)", match["shapes"])
            )
            if not all(AXIS.fullmatch(axis) for shape in shapes for axis in shape):
                continue  # prose in brackets
            line = token.start[0]
            around = [s for s in statements if s.lineno <= line <= (s.end_lineno or s.lineno)]
            if not around:
                raise AssertionError(
                    f"{path.name}:{line}: a shape comment stands on an assignment or a return; move it there"
                )
            statement = max(around, key=lambda s: s.lineno)
            target = None
            if not isinstance(statement, ast.Return):
                target = ast.unparse(
                    statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                )
            lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            found.append(Claim(str(path), line, lines, target, bool(match["each"]), shapes))
    return found


@dataclass
class ShapeComments:
    """A context in which every shape comment of the files is held to what its line computes; `lies` collects those that are wrong."""

    paths: list[Path]
    lies: list[str] = field(default_factory=list)
    executed: set[Claim] = field(default_factory=set)

    def __post_init__(self):
        self.claims = [claim for path in self.paths for claim in claims_of(path)]
        self._by_line = {(claim.path, line): claim for claim in self.claims for line in claim.lines}
        self._files = {str(path) for path in self.paths}

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(
            lambda frame, event, arg: (
                _Call(self).trace if frame.f_code.co_filename in self._files else None
            )
        )
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)

    @property
    def silent(self) -> list[str]:
        """The comments whose line did not run."""
        return [f"{Path(c.path).name}:{c.line}" for c in self.claims if c not in self.executed]


class _Call:
    """One call of a function: what its letters mean, and the claim whose line is running."""

    def __init__(self, report: ShapeComments):
        self.report = report
        self.letters: dict[str, int] = {}
        self.running: Claim | None = None
        self.open: list = []  # axes with two unknown letters, looked at again in the end

    def trace(self, frame, event, arg):
        claim = self.running
        if event == "exception":
            self.running = None
        elif claim is not None and (event == "return" or frame.f_lineno not in claim.lines):
            if claim.target is None and event == "return":
                self._check(claim, arg, frame)
            elif claim.target is not None:
                self._check(claim, eval(claim.target, frame.f_globals, frame.f_locals), frame)
            self.running = None
        if event == "line":
            self.running = self.report._by_line.get(
                (frame.f_code.co_filename, frame.f_lineno), self.running
            )
        elif event == "return":
            for claim, axis, n, shape in self.open:
                self._axis(claim, axis, n, shape, frame, last=True)
        return self.trace

    def _check(self, claim, value, frame):
        self.report.executed.add(claim)
        values = list(value) if claim.each or len(claim.shapes) > 1 else [value]
        for item, shape in zip(
            values, claim.shapes * len(values) if claim.each else claim.shapes, strict=True
        ):
            if item is None:
                continue
            came = np.shape(item)
            axes = shape
            if shape[:1] in (("...",), ("…",)):
                axes, came = shape[1:], came[max(0, len(came) - len(shape) + 1) :]
            if len(axes) != len(came):
                self._lie(
                    claim, f"({', '.join(shape)}) has {len(axes)} axes and {np.shape(item)} came"
                )
                continue
            for axis, n in zip(axes, came, strict=True):
                self._axis(claim, axis, n, np.shape(item), frame)

    def _axis(self, claim, axis, n, shape, frame, last=False):
        names = {
            node.id for node in ast.walk(ast.parse(axis, mode="eval")) if isinstance(node, ast.Name)
        }
        known = {a: self.letters[a] for a in names if a in self.letters}
        known |= {
            a: int(frame.f_locals[a])
            for a in names
            if isinstance(frame.f_locals.get(a), (int, np.integer))
        }
        unknown = sorted(names - set(known))
        if len(unknown) > 1:
            if last:
                self._lie(
                    claim,
                    f"{' and '.join(unknown)} of {axis} are bound nowhere, {n} came in {shape}",
                )
            else:
                self.open.append((claim, axis, n, shape))
            return
        if unknown:  # an axis is linear in each of its letters
            zero, one = (eval(axis, {**known, unknown[0]: value}) for value in (0, 1))
            known[unknown[0]] = self.letters[unknown[0]] = round((n - zero) / (one - zero))
        expected = eval(axis, known)
        self.letters.update(known)
        if expected != n:
            self._lie(claim, f"{axis} is {expected} and {n} came in {shape}")

    def _lie(self, claim, text):
        self.report.lies.append(f"{Path(claim.path).name}:{claim.line}: {text}")
