"""A fuzzer of whatever tinymm reads: mutated input, and an oracle that asks more than "no crash".

    python tests/fuzz/run.py --cases 100000 --seed 0              all kinds, on two processes
    python tests/fuzz/run.py --cases 5000 --kind tables           one kind
    python tests/fuzz/run.py tables:17 shards:4                   replay cases, with their tracebacks
    python tests/fuzz/run.py tables:17 --keep FOLDER              the same, and keep the input

A case is named by its kind and its seed, and nothing else decides what it does. `cases` has the
oracle, `pool` the processes, `mutations` what is done to bytes and to JSON, `accounts` what must be
found again; the other files have the kinds, and the docstring of each says what it mutates.
"""
