"""How fast the package is, and what fits.

Read `benchmark` (times beside another library's) and `batch_size` (what one machine has room and
time for).
"""
