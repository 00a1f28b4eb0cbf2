"""The properties can fail: right implementations pass, planted mistakes do not, and nobody is spared by accident."""

import os

import numpy as np
import pytest
import right
from kept import RIGHT
from wrong import WRONG, broken_by

from tinymm.arrays.errors import UsageError
from tinymm.testing import PropertyFailed, check
from tinymm.testing.causes import CAUSES

ACCEPTED = [
    (suite, name, dtype)
    for suite, variants in RIGHT.items()
    for name in variants
    for dtype in ("float64", "float32")
]
PLANTED = [(suite, name) for suite, mistakes in WRONG.items() for name in mistakes]
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"  # two thousand cases for all of them
NEEDS_NOT_MET = {
    "contrastive_loss": {"C17b", "C17c"}
}  # they need logits; every other property runs on the plain variant


def test_every_check_is_listed_under_its_name():
    """A file and a check may share a name, `softmax`: the package's name is the check."""
    assert {
        name: one for name, one in vars(check).items() if isinstance(one, check.Check)
    } == check.CHECKS


@pytest.mark.parametrize("suite, name, dtype", ACCEPTED)
def test_right_implementations_pass(suite, name, dtype):
    report = check.CHECKS[suite](
        **RIGHT[suite][name], dtype=dtype, examples="ci" if name == "plain" else "quick"
    )
    if name == "plain":
        assert set(report.not_run) == NEEDS_NOT_MET.get(suite, set())


@pytest.mark.slow
@pytest.mark.parametrize("suite, name, dtype", ACCEPTED)
def test_right_implementations_pass_many_cases(suite, name, dtype):
    """Two thousand for the plain one of each suite, and five hundred for its other conventions."""
    check.CHECKS[suite](
        **RIGHT[suite][name], dtype=dtype, examples="deep" if DEEP or name == "plain" else 500
    )


@pytest.mark.parametrize("suite", WRONG)
def test_planted_mistakes_are_caught(suite):
    """Each mistake breaks the first and the last property that the shipped table says it breaks."""
    for name, contract in WRONG[suite].items():
        ids = CAUSES[suite][name].split()
        one = check.CHECKS[suite]
        options = dict(contract)
        promised = one.promise(options.pop("fn"), options)
        chosen = [one.suite.properties[key] for key in {ids[0], ids[-1]}]
        assert set(one.suite.findings(promised, chosen, 100)) == {ids[0], ids[-1]}, name


# Hypothesis also draws constants that it finds in the code of loaded modules. Run alone, after all
# test files have been collected, these are the same every time.
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("suite", WRONG)
def test_the_table_of_causes_is_what_the_mistakes_break(suite):
    assert {
        name: " ".join(broken_by(suite, contract, 100)) for name, contract in WRONG[suite].items()
    } == CAUSES[suite]


def test_the_table_of_causes_names_every_mistake():
    assert {suite: list(mistakes) for suite, mistakes in WRONG.items()} == {
        suite: list(rows) for suite, rows in CAUSES.items()
    }
    assert len(PLANTED) >= 500


@pytest.mark.parametrize("suite", WRONG)
def test_every_property_catches_a_mistake(suite):
    caught = {key for ids in CAUSES[suite].values() for key in ids.split()}
    assert caught == set(check.CHECKS[suite].suite.properties)


@pytest.mark.parametrize(
    "suite, key, mistake",
    [
        ("causal_mask", "M01", "floats"),
        ("causal_mask", "M02", "all open"),
        ("padding_mask", "M07", "forgotten"),
        ("prefix_mask", "M11", "plain causal"),
        ("prefix_mask", "M12", "rows open too"),
        ("prefix_mask", "M14", "open suffix"),
        ("softmax", "S03", "no shift by the maximum"),
        ("layer_norm", "L01b", "unbiased variance"),
        ("contrastive_loss", "C11", "logarithm of the softmax"),
        ("layer_norm", "L02b", "mean of squares minus square of mean"),
        ("layer_norm", "L07c", "vjp of mean of squares minus square of mean"),
        ("recall", "R05s", "ties of rounding count as hits"),
        ("recall", "R11b", "nan in all is above all"),
        ("recall", "R11c", "caption of nan is above all"),
        ("recall", "R11d", "swap of nan wins"),
        ("qformer_masks", "Q05", "itg one token ahead"),
        ("hard_negatives", "N02", "only the diagonal masked but refuses"),
        ("hard_negatives", "N05", "own generator"),
        ("hard_negatives", "N12", "refusal names a number that is no row"),
        ("hard_negatives", "N14", "true pairs masked in place"),
        ("hard_negatives", "N06s", "zero after the softmax"),
        ("itm_loss", "N10b", "mean of losses"),
        ("lm_loss", "T08", "smoothing over the other tokens"),
        ("lm_loss", "T12", "length is the sum"),
        ("sigmoid_loss", "G01", "mean of all pairs"),
        ("sigmoid_loss", "G06", "logarithm of the sigmoid"),
        ("sigmoid_loss", "G09", "one pair costs nothing"),
        ("soft_targets", "I05", "ramp applied twice"),
        ("soft_targets", "I13c", "empty slot is picture zero"),
        ("itc_queue", "I08b", "model beside itself"),
        ("itc_queue", "I12a", "momentum encoder trained"),
        ("mlm_masking", "K01a", "labels read after masking"),
        ("mlm_masking", "K03", "in place"),
        ("mlm_masking", "K05", "random ids up to and with V"),
        ("mlm_masking", "K06a", "fifteen percent twice"),
        ("mlm_masking", "K06b", "a tenth of the rest is random"),
        ("mlm_masking", "K06c", "random ids of the batch"),
        ("mlm_masking", "K07a", "own generator"),
        ("mlm_masking", "K07b", "generator seeded at each call"),
        ("ema", "E02b", "view of the model"),
        ("queue", "U01", "pointer stands still and is not told"),
        ("queue", "U02", "wraps around"),
        ("queue", "U04", "stored as views"),
        ("queue", "U05", "half precision"),
    ],
)
def test_irreplaceable_properties_alone_catch_a_mistake(suite, key, mistake):
    assert CAUSES[suite][mistake] == key


def test_equal_scores_are_a_weak_test_of_a_loss():
    """The popular "equals ln n when all is equal" misses the commonest mistake, and most others."""
    missed = [name for name, ids in CAUSES["contrastive_loss"].items() if "C01" not in ids.split()]
    assert "one direction only" in missed
    assert len(missed) > len(CAUSES["contrastive_loss"]) / 2


def test_one_line_finds_most_mistakes_with_the_masks_of_the_q_former():
    """ITC and ITG together are ITM without its queries' view of the text; that ITC ⊂ ITG, as one would think, is not even true."""
    rows = CAUSES["qformer_masks"]
    assert sum("Q09" in ids.split() for ids in rows.values()) > len(rows) / 3
    masks = [
        right.qformer_mask(2, np.ones((1, 3), dtype=bool), objective)
        for objective in ("itc", "itg", "itm")
    ]
    assert (
        not (masks[0] <= masks[1]).all()
        and (masks[0] <= masks[2]).all()
        and (masks[1] <= masks[2]).all()
    )


def test_negatives_drawn_as_in_the_released_code_pass_the_core_and_fail_the_strict_tier():
    """A softmax whose true pairs become zero afterwards fails once the model is sure of its pairs, with an epsilon too."""
    for name in ("zero after the softmax", "epsilon and zero after the softmax"):
        check.hard_negatives(WRONG["hard_negatives"][name]["fn"], tier="core", examples="quick")
        with pytest.raises(PropertyFailed) as failure:
            check.hard_negatives(WRONG["hard_negatives"][name]["fn"], examples="quick")
        assert failure.value.failed == ("N06s",)


def test_finite_additive_masks_pass_the_core_and_fail_the_strict_tier():
    check.attention(right.additive_attention, tier="core", examples="quick")
    with pytest.raises(PropertyFailed) as failure:
        check.attention(right.additive_attention, examples="quick")
    assert failure.value.failed == ("A14s", "A15s")


@pytest.mark.parametrize(
    "suite, variant, broken",
    [
        ("causal_mask", "true means ignore", "M02"),
        ("padding_mask", "rows of padding blocked too", "M08"),
        ("attention", "unscaled", "A07"),
        ("contrastive_loss", "divisor", "C05"),
        ("contrastive_loss", "unit rows", "C08"),
        ("qformer_masks", "text first", "Q01"),
        ("qformer_masks", "rows of padding blocked too", "Q13"),
        ("max_over_queries", "unit rows", "X08"),
        ("hard_negatives", "texts first", "N03"),
        ("lm_loss", "shifted by the caller", "T03"),
        ("lm_loss", "mean of captions", "T06"),
        ("sigmoid_loss", "mean of all pairs", "G01"),
        ("soft_targets", "queue first", "I02"),
        ("itc_queue", "normalizes", "I10"),
        ("itc_queue", "multiplier", "I08a"),
        ("mlm_masking", "minus one", "K01a"),
        ("queue", "columns", "U01"),
        ("queue", "oldest first", "U03"),
        ("queue", "any size", "U02"),
    ],
)
def test_a_right_function_under_another_contract_fails(suite, variant, broken):
    """A contract is a promise: without the variant's options (or with others) a right function breaks properties."""
    options = {"padding_mask": {"rows": "same"}, "qformer_masks": {"rows_of_padding": "same"}}.get(
        suite, {}
    )
    with pytest.raises(PropertyFailed) as failure:
        check.CHECKS[suite](RIGHT[suite][variant]["fn"], examples="quick", **options)
    assert broken in failure.value.failed
    assert "another convention than" in str(failure.value)


def test_one_line_parametrization():
    names = dict(
        check.layer_norm.properties(right.layer_norm, vjp=right.layer_norm_vjp, examples=5)
    )
    assert list(names) == list(check.layer_norm.suite.properties)
    assert names["L03"]().passed == ("L03",)


@pytest.mark.parametrize(
    "key, holds", check.causal_mask.properties(right.causal_mask, examples="quick")
)
def test_properties_as_parameters(key, holds):
    assert holds().passed == (key,)


def test_a_vjp_that_a_function_carries_is_used():
    def fn(x):
        return right.softmax(x)

    fn.vjp = right.softmax_vjp
    assert "S08c" in check.softmax(fn, examples="quick").passed


def test_unknown_options_are_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="true_means, additive, window; polarity came"):
        check.causal_mask(right.causal_mask, polarity=1)
    with pytest.raises(UsageError, match="'multiply', 'divide', 'log'; 'times' came"):
        check.contrastive_loss(right.loss, scale="times")
    with pytest.raises(UsageError, match="'quick', 'ci', 'deep' or a whole number above 0; 0 came"):
        check.softmax(right.softmax, examples=0)
    with pytest.raises(UsageError, match="'Z9' is no property of it; it has S01"):
        check.softmax(right.softmax, only="Z9")
    with pytest.raises(UsageError, match="'core', 'strict'; 'all' came"):
        check.softmax(right.softmax, tier="all")
    with pytest.raises(UsageError, match="'float64', 'float32'; 'float16' came"):
        check.softmax(right.softmax, dtype="float16")


def test_functions_get_the_promised_dtype():
    seen = set()

    def fn(x):
        seen.add(x.dtype)
        return right.softmax(x)

    check.softmax(fn, dtype="float32", examples=3)
    assert seen == {np.dtype("float32")}


# ---------------------------------------------------------------------- what stands behind a function without its name
def test_a_vjp_may_stand_behind_its_function():
    assert "V02" in check.vjp(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), examples=5).passed
    names = dict(check.vjp.properties(right.softmax, right.softmax_vjp, examples=5))
    assert names["V03"]().passed == ("V03",)
    with pytest.raises(
        UsageError,
        match="check.softmax takes a function, and 2 came without a name; give options by name",
    ):
        check.softmax(right.softmax, right.softmax_vjp)
    with pytest.raises(UsageError, match="takes a function and vjp, and 3 came"):
        check.vjp(right.softmax, right.softmax_vjp, 1)
    with pytest.raises(PropertyFailed, match="no vjp came; give it behind the function"):
        check.vjp(right.softmax, examples=3)


def test_signatures_and_domains_that_cannot_be_drawn_are_refused():
    for signature in ("m,n", "(m,n", "(m;n)"):
        with pytest.raises(
            UsageError,
            match=r"names the axes of each array as '\(m,k\),\(k,n\)', and '.*' came; write it so",
        ):
            check.vjp(np.tanh, lambda g, x: g, signature=signature)
    with pytest.raises(UsageError, match=r"5 letters and \(-2.0, 2.0\) came; name fewer"):
        check.vjp(np.tanh, lambda g, x: g, signature="(a,b,c,d,e)")
    with pytest.raises(UsageError, match=r"0 letters and \(1, 1\) came"):
        check.vjp(np.tanh, lambda g, x: g, signature="(3)", domain=(1, 1))


def test_inputs_keep_to_domain_shapes_and_away_from_kinks():
    seen = []

    def watched(x, y):
        seen.append((x, y))
        return x.sum() + y.sum()

    kinks = {"signature": "(m,3),(3)", "domain": (-1.0, 0.5), "kinks": (0.0,)}
    check.vjp(watched, lambda g, x, y: (g + 0 * x, g + 0 * y), only="V01", examples=50, **kinks)
    assert (
        all(x.ndim == 2 and x.shape[1] == 3 and y.shape == (3,) for x, y in seen)
        and len({len(x) for x, _ in seen}) == 4
    )
    numbers = np.concatenate([part.ravel() for pair in seen for part in pair])
    assert (
        -1 <= numbers.min() < -0.9
        and 0.4 < numbers.max() <= 0.5
        and np.abs(numbers).min() >= 1e-4 * 0.999
    )


def test_a_row_reaches_itself_and_what_its_layers_pass_on():
    chain = np.eye(4, k=-1, dtype=bool)
    one, two = (check.no_leak.contract(lambda x, mask: x, layers=layers) for layers in (1, 2))
    assert (
        one.reach(chain).astype(int).tolist()
        == (chain | np.eye(4, dtype=bool)).astype(int).tolist()
    )
    np.testing.assert_array_equal(
        two.reach(chain), np.tri(4, dtype=bool) & ~np.tri(4, k=-3, dtype=bool)
    )
    np.testing.assert_array_equal(two.reach(chain, itself=False), np.eye(4, k=-2, dtype=bool))
