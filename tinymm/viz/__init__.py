"""Chapter 10, how we look inside: pictures whose titles are findings, drawn the same way in every run folder.

Read `style` first (four colors that mean the same thing everywhere, and how a file is written), then `similarity` (the matrix
that CLIP is about), `curves` (a loss beside what it would be if the model knew nothing), `retrieval` (failures first); then who may look
at whom: `mask_cells` (what a cell means), `mask_text` (in a terminal), `masks` (on paper), `objectives` (BLIP-2's three); then who does
look: `attention`, and `queries` (which one wins, and where each looks); and `captions`, what a model says.

Every function takes NumPy arrays and returns a Matplotlib figure that carries its own alt text in `.alt`; `style.save` writes it.
Nothing here touches `pyplot`: no global state, no window, and threads may draw at the same time.
"""
