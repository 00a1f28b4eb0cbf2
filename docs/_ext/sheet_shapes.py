"""Cheat sheets of shapes: a small CLIP and a small BLIP-2 are run, and each line with a shape comment says what it held.

It is the tracer of the tests that reads along, so that a shape here is one that was there.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tree import PACKAGE, ROOT, page

from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.tasks import losses
from tinymm.tasks.clip import figure_3

sys.path.insert(0, str(ROOT / "tests"))
import shape_comments  # noqa: E402

FILES = [
    path
    for folder in ("layers", "losses", "models", "tasks")
    for path in sorted((PACKAGE / folder).glob("*.py"))
]
LONGEST = 78  # letters of a line
#: In Figure 3 the shapes are the paper's own comments, which are not in our form; what the names
#: held is asked when it returns.
FIGURE = ("I_f", "T_f", "I_e", "T_e", "logits", "loss")


class Seen(shape_comments._Call):
    """One call that also takes note of what its commented lines held."""

    def _check(self, claim, value, frame):
        super()._check(claim, value, frame)
        several = claim.each or len(claim.shapes) > 1
        held = [np.shape(each) for each in value] if several else [np.shape(value)]
        self.report.seen.setdefault((claim.path, claim.line), (claim, held))

    def figure(self, frame, event, _):
        """Take note of Figure 3's names when it returns."""
        if event == "return":
            self.report.figure = {name: np.shape(frame.f_locals[name]) for name in FIGURE}
        return self.figure


class Recorder(shape_comments.ShapeComments):
    """The tests' tracer, which also keeps in order what was seen first."""

    def __post_init__(self):
        super().__post_init__()
        self.seen, self.figure = {}, {}

    def __enter__(self):
        super().__enter__()
        sys.settrace(lambda frame, event, arg: self.look(frame))
        return self

    def look(self, frame):
        """Return who looks at a call: nobody, outside the files."""
        if frame.f_code is figure_3.__code__:
            return Seen(self).figure
        return Seen(self).trace if frame.f_code.co_filename in self._files else None


def recorded(run: Callable[[], None]) -> Recorder:
    """Run and return what was seen; a comment that lies is an error here, too."""
    with Recorder(FILES) as record:
        run()
    if record.lies:
        raise AssertionError("\n".join(record.lies))
    return record


def table(record: Recorder) -> str:
    """Return one row a commented line: where it stands, what it says, and what it held; a `return` of the line above it is left out."""
    text, last = "| where | line | shape | here |\n|---|---|---|---|\n", None
    for (path, number), (claim, held) in record.seen.items():
        shape = ", ".join(f"({', '.join(axes)})" for axes in claim.shapes)
        of_a_step = Path(path).parent.name == "tasks"
        if (
            last is not None
            and held == last[1]
            and (of_a_step or claim.target is None and path == last[0])
        ):
            continue
        last = (path, held)
        source = (
            Path(path).read_text(encoding="utf-8").splitlines()[number - 1].split("  # ")[0].strip()
        )
        source = source if len(source) <= LONGEST else source[: LONGEST - 1] + "…"
        where = f'<a href="../{page(Path(path))}.html#L{number}">{Path(path).stem} {number}</a>'
        source = source.replace("|", "\\|")
        text += (
            f"| {where} | `{source}` | `{shape}` | `{', '.join(map(str, dict.fromkeys(held)))}` |\n"
        )
    return text


CLIP_SAYS = """# Cheat sheet: shapes through CLIP

{{.sheet}}
Three pictures {images} and three texts {ids} through the smallest CLIP. Each shape was there when this page was made. In ViT-B/32: P = {P}, D = {D}
(picture) and {D_text} (text), T = {T}, E = {E}.

"""
BLIP2_SAYS = """# Cheat sheet: shapes through BLIP-2

{{.sheet}}
Three pictures {images} and three texts {ids} through the smallest stage 1 (ITC, ITM with 3B pairs, ITG) and stage 2. Each shape was there when this
page was made. In the paper: P = {P}, Q = {Q}, D = {D}, M = {M} of the picture's tokens, E = {E}, W = {W} of OPT-2.7b.

"""
IN_THE_PAPER = dict(
    zip(
        FIGURE,
        ("[n, d_i]", "[n, d_t]", "[n, d_e]", "[n, d_e]", "[n, n]", "one number"),
        strict=True,
    )
)


def clip() -> str:
    """Return the page of the shapes through CLIP."""
    paper, rng = CLIPConfig.paper("ViT-B/32"), np.random.default_rng(0)
    images, ids = (
        rng.standard_normal((3, 32, 32, 3)).astype(np.float32),
        np.array([[5, 7, 49, 0, 0], [6, 49, 0, 0, 0], [7, 8, 9, 10, 49]]),
    )
    record = recorded(lambda: losses(CLIP(CLIPConfig.tiny(), rng), images, ids))
    sizes = {
        "P": paper.image.patches,
        "D": paper.image.width,
        "D_text": paper.text.width,
        "T": paper.text.context,
        "E": paper.embed_dim,
    }
    text = CLIP_SAYS.format(images=images.shape, ids=ids.shape, **sizes) + table(record)
    text += "\n## Figure 3\n\n| name | in the paper | here |\n|---|---|---|\n"
    return text + "".join(
        f"| `{name}` | {IN_THE_PAPER[name]} | `{shape}` |\n"
        for name, shape in record.figure.items()
    )


def blip2() -> str:
    """Return the page of the shapes through both stages of BLIP-2."""
    rng = np.random.default_rng(0)
    images, ids = (
        rng.standard_normal((3, 16, 16, 3)).astype(np.float32),
        rng.integers(3, 20, (3, 5)),
    )

    def run() -> None:
        losses(BLIP2Stage1(BLIP2Config.tiny(), rng), images, ids, np.ones(ids.shape, bool), rng=rng)
        losses(BLIP2Stage2(BLIP2Stage2Config.tiny(), rng), images, ids)

    paper, language = BLIP2Config.paper(), BLIP2Stage2Config.paper().language
    sizes = {
        "P": paper.image.patches,
        "Q": paper.qformer.queries,
        "D": paper.qformer.width,
        "M": paper.image.width,
        "E": paper.embed_dim,
    }
    return BLIP2_SAYS.format(images=images.shape, ids=ids.shape, W=language.width, **sizes) + table(
        recorded(run)
    )
