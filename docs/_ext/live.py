"""Explorers, live: where a page has the picture of one on a line of its own, the site has the explorer itself.

The page's source keeps the picture for those who read it elsewhere. The explorers are made when the
site is built, of the package's own glyphs and of a small record of a run of `demo`
(`notebooks/kept/unseen.json`), so that equal sources give equal pages.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
from docutils import nodes
from sphinx.transforms import SphinxTransform
from tree import PACKAGE, ROOT

from tinymm.data.builtin import glyphs
from tinymm.viz import AttentionExplorer, MaskExplorer, SimilarityExplorer
from tinymm.viz.widgets.explorer import Explorer
from tinymm.workflows.runs.figures import show_pairs

RECORD = ROOT / "notebooks" / "kept" / "unseen.json"


@cache
def unseen() -> tuple[dict, np.ndarray]:
    """Return the record and the pictures (n, h, w, c) in [0, 1] that belong to it."""
    record, source = json.loads(RECORD.read_text(encoding="utf-8")), glyphs.load()
    shown = show_pairs(source, len(record["captions"]))
    if list(shown.captions) != record["captions"]:
        raise ValueError(
            f"{RECORD.name} is a record of {record['captions']} and the glyphs show {shown.captions}; make it again"
        )
    return record, np.clip(source.preprocess.denormalize(shown.images), 0, 1)


def masks() -> Explorer:
    """Return the masks of BLIP-2, ITG's first."""
    return MaskExplorer("itg", queries=4, words=["a", "red", "ball"], padding=1)


def similarity() -> Explorer:
    """Return the ten unseen characters of the README against their names, before and after training, at the scale that was learned."""
    record, pictures = unseen()
    return SimilarityExplorer(
        pictures,
        record["captions"],
        np.array(record["after"]),
        before=np.array(record["before"]),
        scale=record["scale"],
    )


def attention() -> Explorer:
    """Return where the class token and the patches of one unseen character look."""
    record, pictures = unseen()
    maps = [np.array(layer) / 10_000 for layer in record["attention"]]
    names = ["class", *(f"patch {i + 1}" for i in range(len(maps[0][0]) - 1))]
    return AttentionExplorer(maps, names, picture=pictures[record["looked_at"]])


#: The picture's file, and what stands in its place.
LIVE = {
    "explore_masks.png": masks,
    "explore_similarity.png": similarity,
    "explore_attention.png": attention,
    "similarity.png": similarity,
}


class Live(SphinxTransform):
    """Put explorers in the place of their pictures, before Sphinx collects these."""

    default_priority = 400

    def apply(self, **_):
        """Replace a paragraph that holds such a picture and nothing else."""
        for picture in list(self.document.findall(nodes.image)):
            if (
                picture["uri"] in LIVE
                and isinstance(picture.parent, nodes.paragraph)
                and len(picture.parent) == 1
            ):
                for path in [
                    RECORD,
                    Path(__file__),
                    *sorted((PACKAGE / "viz" / "widgets").glob("*.*")),
                ]:
                    self.env.note_dependency(str(path))
                page = LIVE[picture["uri"]]()._repr_html_()
                picture.parent.replace_self(
                    nodes.raw("", f'<div class="live">{page}</div>', format="html")
                )


def setup(app):
    """Register the transform."""
    app.add_transform(Live)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
