"""The benchmark: how long the package takes, how much memory, and what the papers' scale would ask.

Read `cases` (what is measured), `timing` and `memory` (how), then the sides, which run in processes
of their own: `tinymm_side`, `torch_side` and `jax_side`. `run` is the command. `ranks` times steps
that ranks share, `batch_memory` and `block_memory` weigh what memory can be saved, and `scale`
computes what the paper's scale asks.
"""
