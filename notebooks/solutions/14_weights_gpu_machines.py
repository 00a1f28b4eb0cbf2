# %% [markdown]
# # Exercises 14 · Real weights, many machines
#
# Write Python and NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints
# nothing); else it says what belongs there and what came. Hints are folded; open one at a time.

# %%
import pickle
import pickletools

import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** CLIP's batch has 32,768 pairs. How many gigabytes (10⁹ bytes) is the matrix of similarities in float32, to one digit behind the point?
# Assign a number: `gigabytes`.

# %% solution="14-puzzle-1"
### BEGIN SOLUTION: n squared numbers of four bytes
gigabytes = round(32768**2 * 4 / 1e9, 1)
### END SOLUTION

# %% test="14-puzzle-1-check" points=1
assert gigabytes == 4.3, f"n² · 4 bytes are 4.3 GB, and {gigabytes} came"

# %% [markdown]
# **Puzzle 2.** Four ranks of 8 pairs each. In a rank's own rows against the texts of all ranks, which column is the right one for row 5 of rank 2 (both counted from 0)?
# Assign a number: `column`.

# %% solution="14-puzzle-2"
### BEGIN SOLUTION: the ranks before it, and the row
column = 2 * 8 + 5
### END SOLUTION

# %% test="14-puzzle-2-check" points=1
assert column == 21, f"rank · b + row, and {column} came"

# %% [markdown]
# ## 14a · A key map
#
# `renamed(theirs, rules)` turns a checkpoint's dict into ours. `rules` is a list of (their name, our name, turn): with `turn` the array is transposed. Every array of theirs must be named by exactly
# one rule and every rule must find its array: otherwise a ValueError names what is too many or missing.
#
# <details><summary>Hint 1: the idea</summary>Compare two sets of names first; only then move arrays.</details>
# <details><summary>Hint 2: the formula</summary>missing = {rules} − {file}, left over = {file} − {rules}</details>
# <details><summary>Hint 3: the first line</summary><code>named = [their for their, _, _ in rules]</code>; a name that occurs twice is a mistake of the rules.</details>

# %% solution="14a"
def renamed(theirs, rules):
    """Return {our name: array}."""
    ### BEGIN SOLUTION: account for every name, then move
    known = [their for their, _, _ in rules]
    missing, over = sorted(set(known) - set(theirs)), sorted(set(theirs) - set(known))
    if missing or over or len(set(known)) != len(known):
        raise ValueError(f"missing {missing}, left over {over}")
    return {our: theirs[their].T if turn else theirs[their] for their, our, turn in rules}
    ### END SOLUTION

# %% test="14a-moves" points=2
file = {"fc.weight": np.arange(6.0).reshape(2, 3), "fc.bias": np.ones(2)}
rules = [("fc.weight", "linear.weight", True), ("fc.bias", "linear.bias", False)]
ours = renamed(file, rules)
assert ours["linear.weight"].shape == (3, 2) and ours["linear.weight"][2, 1] == 5.0 and list(ours) == ["linear.weight", "linear.bias"]

# %% test="14a-accounts" points=2
for wrong in ({**file, "extra": np.ones(1)}, {"fc.bias": np.ones(2)}):
    try:
        renamed(wrong, rules)
    except ValueError as error:
        assert "extra" in str(error) or "fc.weight" in str(error), f"the error names what is wrong, and says: {error}"
    else:
        raise AssertionError(f"the names {sorted(wrong)} do not fit the rules, and nothing was raised")

# %% [markdown]
# ## 14b · A loss over ranks
#
# `share(I, T, everyone_i, everyone_t, first, scale)` is one rank's share of the symmetric contrastive loss: its own unit rows I and T (b, E) against all n of everyone, its own pairs beginning at
# column `first`. The shares of all ranks add up to the loss of the whole batch.
#
# <details><summary>Hint 1: the idea</summary>Two cross-entropies over b rows, with labels first … first + b − 1; divided by what makes the sum of all ranks a mean over n.</details>
# <details><summary>Hint 2: the formula</summary>Σ over own rows of (surprise_i + surprise_t) / 2n</details>
# <details><summary>Hint 3: the first line</summary><code>logits = scale * I @ everyone_t.T</code>, and the same with the sides exchanged.</details>

# %% solution="14b"
def share(I, T, everyone_i, everyone_t, first, scale):
    """Return a number; the shares of all ranks add up to the loss."""
    ### BEGIN SOLUTION: both directions of the own rows, labels with their offset
    total = 0.0
    for rows, columns in ((I, everyone_t), (T, everyone_i)):
        logits = scale * rows @ columns.T
        level = logits - logits.max(axis=1, keepdims=True)
        log_p = level - np.log(np.exp(level).sum(axis=1, keepdims=True))
        total -= log_p[np.arange(len(rows)), first + np.arange(len(rows))].sum()
    return total / (2 * len(everyone_i))
    ### END SOLUTION

# %% test="14b-sum" points=4
def over_ranks(image, text, scale):
    I, T = (x / np.sqrt((x * x).sum(axis=1, keepdims=True)) for x in (image, text))
    cuts = np.array_split(np.arange(len(I)), 3)
    return sum(share(I[own], T[own], I, T, own[0], scale) for own in cuts if len(own))


check.contrastive_loss(over_ranks, inputs="raw", scale="multiply")

# %% [markdown]
# ## 14c · A reader that runs nothing
#
# `is_harmless(data, allowed)` looks at the bytes of a pickle *without* loading it, and returns False if it names anything (`module name`) that is not in the set `allowed`. Python's `pickletools.genops` gives
# the instructions one by one, as (opcode, argument, position).
#
# <details><summary>Hint 1: the idea</summary>Only two instructions fetch something by its name: GLOBAL has both words as its argument, STACK_GLOBAL takes the two last strings.</details>
# <details><summary>Hint 2: the formula</summary>GLOBAL: argument == "module name". STACK_GLOBAL: the last two strings that were pushed (or recalled by BINGET / MEMOIZE; refuse if unsure).</details>
# <details><summary>Hint 3: the first line</summary>Keep a list <code>strings</code>; opcodes whose name ends in UNICODE push one.</details>

# %% solution="14c"
def is_harmless(data, allowed):
    """Return whether a pickle names nothing outside of `allowed`."""
    ### BEGIN SOLUTION: watch the strings, judge the names
    strings, memory = [], []
    for code, argument, _ in pickletools.genops(data):
        if code.name.endswith("UNICODE"):
            strings.append(argument)
        elif code.name == "MEMOIZE":
            memory.append(strings[-1] if strings else None)
        elif code.name in ("BINGET", "LONG_BINGET"):
            strings.append(memory[argument] if argument < len(memory) else None)
        elif code.name == "GLOBAL" and argument not in allowed:
            return False
        elif code.name == "STACK_GLOBAL" and (len(strings) < 2 or f"{strings[-2]} {strings[-1]}" not in allowed):
            return False
        elif code.name in ("INST", "EXT1", "EXT2", "EXT4"):
            return False
    return True
    ### END SOLUTION

# %% test="14c-weights" points=1
class Trap:
    def __reduce__(self):
        return eval, ("1 + 1",)


plain = {"weight": [1.0, 2.0], "name": "builtins eval"}
assert all(is_harmless(pickle.dumps(plain, protocol), set()) for protocol in (2, 4)), "words that are data are no names"

# %% test="14c-trap" points=2
for protocol in (0, 2, 4):
    assert not is_harmless(pickle.dumps({"weight": Trap()}, protocol), {"collections OrderedDict"}), f"protocol {protocol}: eval would have run"

# %% [markdown]
# ## Open question
#
# Two groups train "the same" model on 8 and on 64 machines with the same batch on each. Name three things of this notebook that differ between the two trainings even if no code is wrong, and one that
# differs only if it is.

# %% [markdown] answer="14d" points=2
# *Your answer, in three sentences:*
