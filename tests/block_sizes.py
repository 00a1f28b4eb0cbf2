"""The size of a kernel's blocks, set by hand inside of an example: Hypothesis runs many examples under one fixture."""

from contextlib import contextmanager


@contextmanager
def sized(module, **sizes):
    """Set constants of a module, such as `BLOCK=20`, and put them back."""
    before = {name: getattr(module, name) for name in sizes}
    vars(module).update(sizes)
    try:
        yield
    finally:
        vars(module).update(before)
