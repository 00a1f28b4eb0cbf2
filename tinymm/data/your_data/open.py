"""Open a data set by its name or by its path, as `--data` gives it."""

import difflib
from collections.abc import Callable
from typing import Any

from tinymm.arrays.errors import UsageError

from ..batches import Source
from ..datasets import dataset_names, datasets
from . import pairs
from .listing import is_there


def open_source(
    data: str,
    *,
    seed: int = 0,
    channels: int = 3,
    resolution: int = 64,
    say: Callable[[str], None] | None = None,
    **given: Any,
) -> Source:
    """Return the data set of that name, or the pairs of pictures and captions at that path.

    What such data holds and is not used goes to `say`, line by line. `given` is what else
    `pairs.load` takes. UsageError for neither.
    """
    known = datasets()
    if data in known:
        source = known[data].load(seed, resolution)
    elif is_there(data):
        options = {"resolution": resolution, "channels": channels, "seed": seed, **given}
        source = pairs.load(data, **options)
    else:
        near = difflib.get_close_matches(data, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "check the path"
        raise UsageError(
            f"--data is {dataset_names()} or a path to your pictures and captions, "
            f"and {data!r} is none of these; {hint}"
        )
    if say is not None:
        for remark in source.remarks():
            say(f"{data}: {remark}")
    return source
