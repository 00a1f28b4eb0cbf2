"""Chapter 1, where numbers live: which library an array belongs to, how errors speak, where randomness comes from.

Read `backend` (the only file that knows that CuPy exists), then `errors`, `random`, `sums`, `files` and `memory`.
"""
