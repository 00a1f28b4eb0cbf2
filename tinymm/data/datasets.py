"""The registry of named data sets: each declares itself in its own file, with its source.

`builtin/` holds those of this package; `register_dataset` adds yours. `--data`, `data check`, `data
show` and their help know a data set as soon as it is registered.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tinymm.arrays.errors import UsageError

from .batches import Source


@dataclass(frozen=True)
class DatasetSpec:
    """A data set that is asked for by its name.

    `load(seed, resolution)` returns its source; one that is drawn at `one_size` ignores the
    resolution. `sentence` says what it is. A further version of another data set, such as one in
    another language, is a `variant_of` it and left out of lists. Names are listed by `place`, and
    alphabetically where it is the same.

    >>> DatasetSpec("dots", lambda seed, resolution: None, "dots on white").place
    100
    """

    name: str
    load: Callable[[int, int], Source]
    sentence: str
    one_size: bool = False
    variant_of: str = ""
    place: int = 100


_SPECS: dict[str, DatasetSpec] = {}
_BUILTIN = f"{__package__}.builtin"


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Make a data set known by its name, and return it; a file may declare its own once more.

    UsageError for a name that is taken, or that reads as a path.
    """
    if not spec.name or Path(spec.name).name != spec.name:
        raise UsageError(
            f"a data set has a name that is no path, and {spec.name!r} came; choose another"
        )
    if not _file(spec).startswith(_BUILTIN):
        _discover()
    if spec.name in _SPECS and _file(_SPECS[spec.name]) != _file(spec):
        raise UsageError(
            f"each data set has a name of its own, and {spec.name!r} is taken; choose another"
        )
    _SPECS[spec.name] = spec
    return spec


def _file(spec: DatasetSpec) -> str:
    """Return the module in which a data set is declared."""
    return getattr(spec.load, "func", spec.load).__module__


def datasets() -> dict[str, DatasetSpec]:
    """Return all data sets that have a name, by it: those of `builtin/`, then those of users.

    >>> list(datasets())[:3]
    ['glyphs', 'shapes', 'scattered-shapes']
    """
    _discover()
    order = {name: (spec.place, spec.variant_of or name) for name, spec in _SPECS.items()}
    return {name: _SPECS[name] for name in sorted(_SPECS, key=order.__getitem__)}


def is_drawn_at_one_size(name: str) -> bool:
    """Say whether this is the name of a data set whose pictures have one size, whatever is asked.

    >>> is_drawn_at_one_size("glyphs"), is_drawn_at_one_size("digits"), is_drawn_at_one_size("mine")
    (True, False, False)
    """
    return name in datasets() and datasets()[name].one_size


def dataset_names() -> str:
    """Return the names as they stand in a sentence.

    >>> dataset_names()
    "'glyphs', 'shapes', 'scattered-shapes', 'web-shapes', 'digits', 'emoji' (or 'emoji-de', 'emoji-zh' …)"
    """
    known = datasets().values()
    names = ", ".join(repr(spec.name) for spec in known if not spec.variant_of)
    variants = [repr(spec.name) for spec in known if spec.variant_of]
    return names + (f" (or {', '.join(variants[:2])} …)" if variants else "")


@cache
def _discover() -> None:
    """Import the files of `builtin/`, which register what they declare; nothing is drawn yet."""
    for module in pkgutil.iter_modules(importlib.import_module(_BUILTIN).__path__):
        importlib.import_module(f"{_BUILTIN}.{module.name}")
