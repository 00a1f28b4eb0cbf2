"""The package's errors: each message says the rule, what came, with numbers, and the way out."""

import sys


def not_installed(missing: ModuleNotFoundError) -> str:
    """Return the sentence for a package that the running Python does not find; one that says already what brings it stays as it is."""
    if "pip install" in str(missing):
        return str(missing)
    return (
        f"tinymm runs under the Python that it was installed for, and {sys.executable or 'this Python'} has no {missing.name}; write "
        ".venv/bin/python in the place of python (or . .venv/bin/activate once), or install here: python -m pip install -c constraints.txt -e ."
    )


class TinymmError(Exception):
    """The parent of every error that tinymm raises on purpose: one sentence, made to be read."""


class ShapeError(TinymmError, ValueError):
    """Axes that do not fit: names the rule, the argument's position and both numbers."""


class DtypeError(TinymmError, TypeError):
    """A wrong kind of number, such as a mask that is not boolean."""


class DeviceError(TinymmError, TypeError):
    """Arrays of two devices in one operation, or a device that is not there."""


class GraphError(TinymmError, RuntimeError):
    """A misuse of the recorded graph: a second backward pass, a silent conversion, an in-place change."""


class DataError(TinymmError, ValueError):
    """Pictures, captions or ids that cannot be used."""


class CheckpointError(TinymmError, ValueError):
    """A file of weights that is malformed, unsafe, or does not fit the model."""


class UsageError(TinymmError, ValueError):
    """A setting that cannot work, such as a contrastive batch of one pair."""
