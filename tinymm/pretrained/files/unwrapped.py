"""What training programs wrap around a model's keys comes off: prefixes of every kind, in any order, and what lies beside the weights.

`DistributedDataParallel` and averages of weights write `module.`, `torch.compile` writes
`_orig_mod.` (in front of whatever was compiled, so in the middle of a key too), a class around the
model writes its attribute's name. Counters and states of generators lie among the weights.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError

#: Parts of a key that name no array, wherever they stand.
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
#: What training programs keep among the weights: counters, best results, states of generators.
_BESIDE = re.compile(
    r"n_averaged|num_updates|initted|(global_)?(step|iteration|iter)s?|epochs?|(best|last)_\w+|(\w+_)?rng_state\w*|lr|loss"
)
_DEEPEST, _MOST_NAMES = 3, 32  # containers in one another, and parts that a container may have


def plain_keys(arrays: dict[str, np.ndarray], unused: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays under keys without wrappers' names; name in `unused` what is no weight.

    CheckpointError for two arrays that differ and would have one key.

    >>> list(plain_keys({"_orig_mod.module.W": np.ones(2), "n_averaged": np.array(3)}, []))
    ['W']
    """
    found: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        plain = ".".join(part for part in key.split(".") if part not in _WRAPPERS) or key
        if _BESIDE.fullmatch(plain):
            unused.append(key)
        elif plain in found and not _same(found[plain], array):
            raise CheckpointError(
                f"{key!r} and another key mean the array {plain!r}, and their numbers differ; save the one that you mean"
            )
        else:
            found.setdefault(plain, array)
    return found


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return (
        first is second
        or first.dtype == second.dtype
        and first.shape == second.shape
        and first.tobytes() == second.tobytes()
    )


def unpacked(
    arrays: dict[str, np.ndarray],
    recognize: Callable[[Iterable[str]], tuple[Any, Any] | None],
    unused: list[str],
) -> tuple[tuple[Any, Any], dict[str, np.ndarray]] | None:
    """Return what `recognize` makes of the keys (a family and its layout) and the arrays, by themselves or as one part of something larger.

    The part's name is taken off; arrays outside of it that have a place in the layout count too,
    the others are named in `unused`. None if nothing is recognized, CheckpointError where two parts
    are.
    """
    ways = list(_ways(arrays, recognize, 0))
    if len(ways) > 1:
        names = " and ".join(repr(name) for name, *_ in ways[:3])
        raise CheckpointError(
            f"the file holds a model more than once, under {names}; save the one that you mean"
        )
    if not ways:
        return None
    _, found, kept, left = ways[0]
    unused += left
    return found, kept


def _ways(
    arrays: dict[str, np.ndarray], recognize: Callable, depth: int
) -> Iterable[tuple[str, Any, dict[str, np.ndarray], list[str]]]:
    """Yield (name of the part, what it is, its arrays, the keys left aside) for each way of seeing a model in the arrays."""
    found = recognize(arrays)
    names = dict.fromkeys(key.split(".", 1)[0] for key in arrays if "." in key)
    if found:
        yield "", found, *_with_strays(arrays, found[1], names)
    elif depth < _DEEPEST and len(names) <= _MOST_NAMES:
        for name in names:
            inner = {
                key.removeprefix(f"{name}."): array
                for key, array in arrays.items()
                if key.startswith(f"{name}.")
            }
            outer = {key: array for key, array in arrays.items() if not key.startswith(f"{name}.")}
            for part, found, kept, left in _ways(inner, recognize, depth + 1):
                joined = {
                    key: array
                    for key, array in outer.items()
                    if key not in kept and found[1].knows(key)
                }
                aside = [f"{name}.{key}" for key in left] + [
                    key for key in outer if key not in joined
                ]
                yield f"{name}.{part}", found, kept | joined, aside


def _with_strays(
    arrays: dict[str, np.ndarray], layout: Any, names: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays, those of them without a prefix that only the others have lost; keys that have no place stay, to be complained of."""
    strays = {key for key in arrays if not layout.knows(key)}
    for name in names:
        bare = {key: key.removeprefix(f"{name}.") for key in strays if key.startswith(f"{name}.")}
        if bare and all(layout.knows(plain) and plain not in arrays for plain in bare.values()):
            return {bare.get(key, key): array for key, array in arrays.items()}, []
    return arrays, []
