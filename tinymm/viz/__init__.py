"""Chapter 11, how we look inside: pictures whose titles are findings, the same in every run folder.

Read `style` first (four colors that mean the same thing everywhere, and how a file is written) with
`fonts` (letters of any script) and `tables` (numbers as text), then `samples` (what is in the
data), `charts` (curves and bars with their chance level), `curves` (a loss beside its chance
level), `grids` (small matrices whose numbers can be read), `graph` (a result with all that it was
made from), `patches` (a picture, cut) and `captions` (what a model says).

Then the folders: `attention/` (where attention goes), `masks/` (where it may go), `models/` (what
each model is made of), `performance/` (how fast it is), `retrieval/` (which picture finds which
caption) and `widgets/` (what answers to pointer or keyboard, and the helpers of the notebooks).

Every drawing takes NumPy arrays, those of `models/` a model too, and is a Matplotlib figure that
carries its own alt text in `.alt`; `style.save` writes it. Nothing here touches `pyplot`: no global
state, no window, and threads may draw at the same time.
"""

from .widgets.attention import AttentionExplorer
from .widgets.masks import MaskExplorer
from .widgets.similarity import SimilarityExplorer

__all__ = ["AttentionExplorer", "MaskExplorer", "SimilarityExplorer"]
