"""Chapter 10, how we look inside: pictures whose titles are findings, drawn the same way in every run folder.

Read `style` first (four colors that mean the same thing everywhere, and how a file is written), then `similarity` (the matrix
that CLIP is about), `curves` (a loss beside what it would be if the model knew nothing), `retrieval` (failures first); then who may look
at whom: `mask_cells` (what a cell means), `mask_text` (in a terminal), `masks` (on paper), `objectives` (those of ALBEF, BLIP and BLIP-2);
then who does look: `attention`, `grounding` (which part of the picture a word owes its match to, beside two controls), and `queries` (which
one wins, and where each looks); what one model is made of: `ring` (ALBEF's queue, and what age does to it), `stack` (BLIP's, three ways),
`strip` (BLIP-2's, from picture to words), `capfilt` (captions kept, dropped and rewritten) and `captions`, what a model says; at the end
`systems`, all of them side by side, and `benchmark`, how fast all this is.
The notebooks have `lesson` (a figure with its numbers, a guess beside the truth), `charts` (curves and bars with their chance level) and
`grids` (small matrices whose numbers can be read).

Every drawing takes NumPy arrays, `stack` and `strip` a model, and is a Matplotlib figure that carries its own alt text in `.alt`;
`style.save` writes it. Nothing here touches `pyplot`: no global state, no window, and threads may draw at the same time.
"""
