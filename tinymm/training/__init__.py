"""Chapter 10, training: a loop that is one function, and what it needs.

Read `loop` (a step, from batch to record), `optimizers` and `schedules` (how a gradient becomes a
change), `parallel` (one batch over several workers) with `ranks` and `mpi` (workers that are
processes) and `gathers` (how that goes wrong), `gradient_cache` (a batch that does not fit),
`checkpoint` and `records` with `events` (what a run keeps and leaves behind), `evaluate` and
`evaluate_matching` (what the model has learned), `arithmetic` (what the paper's own scale would ask
of machines).
"""
