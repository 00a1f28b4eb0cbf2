"""What a layout is: a list of rules, each of which says how one kind of key is called here and there.

A rule is declared once and read both ways: importing renames and rearranges their arrays into ours,
exporting does the inverse. The rearrangements (transposing, moving the channel axes, joining three
arrays into one) only move numbers, so a *gradient* goes through the export unchanged too: comparing
all parameter gradients with another program's is one comparison of two dictionaries.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError

_AXES = {"same": None, "scalar": None, "transpose": (1, 0), "convolution": (2, 3, 1, 0)}
_LEADING = {"one leading axis": 1, "two leading axes": 2}
_INDEX = "(0|[1-9][0-9]{0,3})"


@dataclass(frozen=True)
class Rule:
    """One kind of array under both names; `{}` stands for a layer's number, the same on both sides.

    `theirs` with several names: their arrays are joined along our last axis, as query, key and
    value in one weight. `change` is what theirs undergo to become ours: "same", "transpose"
    (torch's Linear weights are (out, in)), "convolution" (torch's kernels are (out, in, h, w), ours
    (h, w, in, out)), "scalar" (one number, which some files keep with an axis), "one leading axis"
    or "two leading axes" (of length 1, which ours lack), or "no key bias" (EVA stores the biases of
    query and value; the key's, which no softmax sees, stands between them as zeros). `optional`:
    files may lack it.
    """

    ours: str
    theirs: tuple[str, ...]
    change: str = "same"
    optional: bool = False

    @cached_property
    def our_pattern(self) -> re.Pattern[str]:
        """The expression that our names of this kind match."""
        return _pattern(self.ours)

    @cached_property
    def their_patterns(self) -> tuple[re.Pattern[str], ...]:
        """The expressions that their names of this kind match."""
        return tuple(map(_pattern, self.theirs))

    def import_(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Make our array of theirs; arrays of a wrong number of axes stay as they are, for the check of shapes to name them."""
        if self.change in _LEADING:
            leading = _LEADING[self.change]
            return (
                arrays[0].reshape(arrays[0].shape[leading:])
                if arrays[0].shape[:leading] == (1,) * leading
                else arrays[0]
            )
        if self.change == "scalar":
            return arrays[0].reshape(()) if arrays[0].shape == (1,) else arrays[0]
        if self.change == "no key bias":
            return np.concatenate([arrays[0], np.zeros_like(arrays[0]), arrays[1]])
        axes = _AXES[self.change]
        moved = [x if axes is None or x.ndim != len(axes) else x.transpose(axes) for x in arrays]
        # in plain C order: the sums of a matrix product are rounded differently where a weight lies the other way
        return (
            np.asarray(moved[0], order="C")
            if len(moved) == 1
            else np.ascontiguousarray(np.concatenate(moved, axis=-1))
        )

    def export(self, array: np.ndarray) -> list[np.ndarray]:
        """Make their arrays of ours."""
        if self.change in _LEADING:
            return [array.reshape((1,) * _LEADING[self.change] + array.shape)]
        if self.change == "no key bias":
            return np.split(array, 3)[::2]
        axes = _AXES[self.change]
        parts = np.split(array, len(self.theirs), axis=-1) if len(self.theirs) > 1 else [array]
        return [part if axes is None else part.transpose(np.argsort(axes)) for part in parts]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", _INDEX), re.ASCII)


def linear(ours: str, theirs: str, **options: Any) -> tuple[Rule, ...]:
    """Return the two rules of a linear map."""
    return (
        Rule(f"{ours}.weight", (f"{theirs}.weight",), "transpose", **options),
        Rule(f"{ours}.bias", (f"{theirs}.bias",), **options),
    )


def norm(ours: str, theirs: str, **options: Any) -> tuple[Rule, ...]:
    """Return the two rules of a layer norm."""
    return Rule(f"{ours}.weight", (f"{theirs}.weight",), **options), Rule(
        f"{ours}.bias", (f"{theirs}.bias",), **options
    )


@dataclass(frozen=True)
class StateDictLayout:
    """A family of files: its rules, the keys that may stand in a file without being weights, and our names that have no place there.

    The names in `missing_keys` (where `{}` is a layer's number, too) are missing in a model that
    such a file is loaded into, and are left out where one is written. `copies` (a pattern of their
    keys, its name elsewhere) are arrays that the file holds a second time: compared when read, and
    repeated when written. `tied` are pairs (key of an output head, key of the array that it is):
    compared when read, too, and not written, unless the model's head is one of its own. A file
    whose positions `antialias` is of a program that resizes them so (`positions`).
    """

    name: str
    rules: tuple[Rule, ...]
    ignorable: tuple[str, ...] = ()
    missing_keys: tuple[str, ...] = ()
    copies: tuple[str, str] | None = None
    tied: tuple[tuple[str, str], ...] = ()
    antialias: bool = False

    @cached_property
    def _missing_key_patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(map(_pattern, self.missing_keys))

    def is_missing_key(self, ours: str) -> bool:
        """Say whether a file of this layout lacks this array of ours."""
        return any(pattern.fullmatch(ours) for pattern in self._missing_key_patterns)

    def _copies(self, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
        """Return, for each second name, the key whose array it repeats."""
        pattern, again = self.copies or ("(?!)", "")
        return {match.expand(again): key for key in arrays if (match := re.fullmatch(pattern, key))}

    def with_copies(self, exported: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays and, under their second names, those that a file holds twice."""
        untied = any(head in exported for head, _ in self.tied)
        biases = {
            head: exported[key]
            for head, key in self.tied
            if untied and key in exported and self._rule_for(head) is None
        }
        return {
            **exported,
            **{again: exported[key] for again, key in self._copies(exported).items()},
            **biases,
        }

    def _heads(
        self, arrays: Mapping[str, np.ndarray], untied: bool
    ) -> tuple[set[str], dict[str, str], list[str]]:
        """Return the heads' keys that say nothing new, those that count in the place of another key (key → that one), and those without a place.

        CheckpointError where a head is another array than it should be, or where one that should be
        is not there.
        """
        repeated: set[str] = set()
        instead: dict[str, str] = {}
        misshapen: list[str] = []
        for head in dict.fromkeys(head for head, _ in self.tied):
            keys = [key for again, key in self.tied if again == head]
            there = [key for key in keys if key in arrays]
            own = self._rule_for(head) is not None
            if head not in arrays:
                if untied and own:
                    raise CheckpointError(
                        f"by its config (tie_word_embeddings false) this model has an output head of its own, and the file has no {head}; "
                        "check that the file is whole, or that the config.json belongs to it"
                    )
            elif (
                not there
                and not untied
                or any(arrays[head].shape != arrays[key].shape for key in there)
            ):
                misshapen.append(head)
            elif (
                untied
            ):  # a bias has no place of its own here: the head's is what is added to the logits
                repeated |= set() if own else set(there)
                instead |= {} if own else {head: keys[0]}
            elif other := next(
                (key for key in there if not np.array_equal(arrays[head], arrays[key])), None
            ):
                raise CheckpointError(
                    f'{head} and {other} are one array unless config.json says "tie_word_embeddings": false, and their numbers differ; put the '
                    "config.json of this very file beside it, or remove the one that does not count"
                )
            else:
                repeated.add(head)
        return repeated, instead, misshapen

    def _repeated_in(self, arrays: Mapping[str, np.ndarray]) -> set[str]:
        """Return the keys that repeat others; CheckpointError where a repetition says something else."""
        copies = {again: key for again, key in self._copies(arrays).items() if again in arrays}
        for again, key in copies.items():
            if not np.array_equal(arrays[again], arrays[key]):
                raise CheckpointError(
                    f"{again} and {key} are one array here, and their numbers differ; load one that was trained so"
                )
        return set(copies)

    def import_(self, arrays: Mapping[str, np.ndarray], untied: bool = False) -> "Imported":
        """Return our arrays, and what did not fit; `untied` output heads are the model's own.

        CheckpointError for arrays to be joined that differ in shape, and for a repetition that says
        something else.
        """
        found = Imported()
        groups: dict[tuple[Rule, tuple[str, ...]], dict[int, str]] = {}
        repeated, instead, found.unexpected = self._heads(arrays, untied)
        repeated |= self._repeated_in(arrays)
        for key in arrays:
            if key in found.unexpected:
                continue
            if key in repeated:
                found.ignored.append(key)
                continue
            known = self._rule_for(instead.get(key, key))
            if known:
                rule, place, numbers = known
                groups.setdefault((rule, numbers), {})[place] = key
            elif any(re.fullmatch(pattern, key) for pattern in self.ignorable):
                _check_places(key, arrays[key])
                found.ignored.append(key)
            else:
                found.unexpected.append(key)
        for (rule, numbers), parts in groups.items():
            names = tuple(theirs.format(*numbers) for theirs in rule.theirs)
            absent = [name for place, name in enumerate(names) if place not in parts]
            if not absent:
                names = tuple(parts[place] for place in range(len(names)))
            shapes = {arrays[key].shape for key in parts.values()}
            if absent:
                found.incomplete[rule.ours.format(*numbers)] = tuple(absent)
            elif len(names) > 1 and (len(shapes) > 1 or () in shapes):
                came = ", ".join(f"{name} {arrays[name].shape}" for name in names)
                raise CheckpointError(
                    f"arrays that are joined have one shape: {came} came; the file is damaged"
                )
            else:
                ours = rule.ours.format(*numbers)
                found.keys[ours] = names
                found.arrays[ours] = rule.import_([arrays[name] for name in names])
        return found

    def knows(self, key: str) -> bool:
        """Say whether a key has a place in this layout."""
        return self._rule_for(key) is not None or any(
            re.fullmatch(pattern, key) for pattern in self.ignorable
        )

    def _rule_for(self, key: str) -> tuple[Rule, int, tuple[str, ...]] | None:
        for rule in self.rules:
            for place, pattern in enumerate(rule.their_patterns):
                if match := pattern.fullmatch(key):
                    return rule, place, match.groups()
        return None

    def their_names(self, ours: str) -> tuple[str, ...]:
        """Return the names under which the layout stores our array; its own name if the layout has no word for it."""
        found = self._rule_of(ours)
        return tuple(theirs.format(*found[1]) for theirs in found[0].theirs) if found else (ours,)

    def _rule_of(self, ours: str) -> tuple[Rule, tuple[str, ...]] | None:
        for rule in self.rules:
            if match := rule.our_pattern.fullmatch(ours):
                return rule, match.groups()
        return None

    def is_optional(self, ours: str) -> bool:
        """Say whether a file may lack this array of ours."""
        found = self._rule_of(ours)
        return self.is_missing_key(ours) or found is not None and found[0].optional

    def export(self, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
        """Return their arrays, and the names of ours for which the layout has no place."""
        exported: dict[str, np.ndarray] = {}
        missing_keys = []
        for ours, array in arrays.items():
            found = self._rule_of(ours)
            if self.is_missing_key(ours):
                continue
            if found is None:
                missing_keys.append(ours)
            else:
                exported.update(zip(self.their_names(ours), found[0].export(array), strict=True))
        return exported, missing_keys


@dataclass
class Imported:
    """What a file held: our arrays, the keys that each came from, and the keys that found no place.

    `incomplete` (our name → keys that lack for it) and `unexpected` are errors; `ignored` keys are
    not (position numbers and the like); `tied` lists groups of keys that share one array, and
    `newly_initialized` our arrays that the file has none for: parameters among them raise when they
    are used, see `Module.initialize_missing`. `layout` is the layout's name, `resolution` that of
    the file's images if its model takes any, and `unused` names what else the file and its folder
    hold and nothing was made of: an optimizer, counters, another program's description, settings
    that are not known.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    tied: list[tuple[str, ...]] = field(default_factory=list)
    newly_initialized: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    layout: str = ""
    resolution: int | None = None


def _check_places(key: str, array: np.ndarray) -> None:
    """Raise CheckpointError unless a buffer of places counts 0, 1, 2 …, as the models do without it."""
    if key.endswith("position_ids") and not np.array_equal(
        np.reshape(array, -1), np.arange(array.size)
    ):
        raise CheckpointError(
            f"{key} counts the places 0, 1, 2 …, and {array.reshape(-1)[:4].tolist()} … came; load a file without it"
        )


def tied_keys(arrays: Mapping[str, np.ndarray]) -> list[tuple[str, ...]]:
    """Return the groups of keys that stand for one and the same array in memory.

    >>> weight = np.ones(3)
    >>> tied_keys({"embedding": weight, "decoder": weight, "other": np.ones(3)})
    [('embedding', 'decoder')]
    """
    groups: dict[int, list[str]] = {}
    for key, array in arrays.items():
        groups.setdefault(id(array), []).append(key)
    return [tuple(keys) for keys in groups.values() if len(keys) > 1]
