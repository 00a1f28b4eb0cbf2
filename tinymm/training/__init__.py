"""Chapter 9, how it learns: a loop that is one function, and what it needs.

Read `loop` (a step, from batch to record), `optimizers` and `schedules` (how a gradient becomes a change), `parallel` (one batch over several
threads), `checkpoint` and `records` with `events` (what a run keeps and leaves behind), `evaluate` and `evaluate_matching` (what the
model has learned), and `arithmetic` (what the paper's own scale would ask of machines).
"""
