"""Chapter 10, how we look inside: pictures whose titles are findings, drawn the same way in every run folder.

Read `style` first (four colors that mean the same thing everywhere, and how a file is written) with `fonts` (letters of any script), then `samples`
(what is in the data),
`similarity` (the matrix that CLIP is about), `filmstrip` (the same at several steps, over its loss), `curves` (a loss beside what it would be
if the model knew nothing), `retrieval` (failures first); then who may look at whom: `mask_cells` (what a cell means), `mask_text` (in a
terminal), `masks` (on paper), `objectives` (those of ALBEF, BLIP and BLIP-2); then who does look: `attention`, `grounding` (which part of the
picture a word owes its match to, beside two controls), and `queries` (which one wins, and where each looks); what one model is made of:
`ring` (ALBEF's queue, and what age does to it), `stack` (BLIP's, three ways), `strip` (BLIP-2's, from picture to words),
`capfilt` (captions kept, dropped and rewritten) and `captions`, what a model says; at the end `systems`, all of them side by
side, `benchmark`, how fast all this is, and `batch_size`, what one machine has room and time for.
The notebooks have `lesson` (a figure with its numbers, a guess beside the truth), `charts` (curves and bars with their chance level) and
`grids` (small matrices whose numbers can be read), `graph` (a result with all that it was made from) and `patches` (a picture, cut).

What can be asked with pointer or keyboard is an `explorer`: a complete SVG with its numbers, and a script that fetches nothing.
`explore_masks` (its cells are drawn by `mask_svg`), `explore_similarity` and `explore_attention` show themselves in a notebook, and `.save`
writes a page.

Every drawing takes NumPy arrays, `stack` and `strip` a model, and is a Matplotlib figure that carries its own alt text in `.alt`;
`style.save` writes it. Nothing here touches `pyplot`: no global state, no window, and threads may draw at the same time.
"""

from .widgets.attention import AttentionExplorer
from .widgets.masks import MaskExplorer
from .widgets.similarity import SimilarityExplorer

__all__ = ["AttentionExplorer", "MaskExplorer", "SimilarityExplorer"]
