"""Chapter 1, arrays: NumPy or CuPy (CPU or GPU), the package's errors, random generators.

Read `backend` (the only file that knows that CuPy exists), then `errors`, `random`, `sums`, `files`
and `memory`.
"""
