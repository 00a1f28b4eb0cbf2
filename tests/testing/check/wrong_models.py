"""Planted mistakes in gradients and in models with masks."""

import numpy as np
import right
import right_models as models
from kept import planted

SOFTMAX = {"fn": right.softmax, "signature": "(m,n)"}
PRODUCT = {"fn": models.product, "signature": "(m,k),(k,n)"}
BIASED = {"fn": models.biased, "signature": "(m,n),(n)"}


class Remembering:
    """A rule that keeps what fn saw last, and forgets what the vjp is asked about."""

    def __call__(self, x):
        self.seen = x
        return np.tanh(x)

    def vjp(self, g, x):
        return g * (1 - np.tanh(self.seen) ** 2)


def doubling(g, x):
    g *= 2
    return g / 2 * (1 - np.tanh(x) ** 2)


def spoiling(g, x):
    slope = 1 - np.tanh(x) ** 2
    x[...] = 0
    return g * slope


remembering = Remembering()
VJP = planted(
    "vjp",
    zero={**SOFTMAX, "vjp": lambda g, x: np.zeros_like(x)},
    without_the_outer_product={**SOFTMAX, "vjp": lambda g, x: right.softmax(x) * g},
    negative={**SOFTMAX, "vjp": lambda g, x: -right.softmax_vjp(g, x)},
    constant_factor_forgotten={"fn": lambda x: x**3, "vjp": lambda g, x: g * x**2},
    transposed={"fn": lambda x: x**3, "vjp": lambda g, x: (3 * g * x**2).T, "signature": "(n,n)"},
    one_percent_too_large={**SOFTMAX, "vjp": lambda g, x: right.softmax_vjp(g, x) * 1.01},
    of_another_axis={**SOFTMAX, "vjp": lambda g, x: right.softmax_vjp(g, x, 0)},
    cotangent_taken_for_ones={**SOFTMAX, "vjp": lambda g, x: right.softmax_vjp(np.ones_like(g), x)},
    two_gradients_swapped={**PRODUCT, "vjp": lambda g, a, b: models.product_vjp(g, a, b)[::-1]},
    second_gradient_missing={**PRODUCT, "vjp": lambda g, a, b: models.product_vjp(g, a, b)[0]},
    second_gradient_zero={**PRODUCT, "vjp": lambda g, a, b: (g @ b.T, 0 * b)},
    not_transposed={**PRODUCT, "vjp": lambda g, a, b: (g @ b.T, a.T @ g + 0.5 * np.eye(*b.shape))},
    stretched_gradient_not_summed={
        **BIASED,
        "vjp": lambda g, x, b: (g * np.tanh(b), g * x * (1 - np.tanh(b) ** 2)),
    },
    stretched_gradient_averaged={
        **BIASED,
        "vjp": lambda g, x, b: (g * np.tanh(b), (g * x).mean(0) * (1 - np.tanh(b) ** 2)),
    },
    kept_axis={
        **BIASED,
        "vjp": lambda g, x, b: (
            g * np.tanh(b),
            (g * x).sum(0, keepdims=True) * (1 - np.tanh(b) ** 2),
        ),
    },
    cotangent_squared={"fn": np.tanh, "vjp": lambda g, x: g**2 * (1 - np.tanh(x) ** 2)},
    cotangent_clipped={
        "fn": np.tanh,
        "vjp": lambda g, x: np.clip(g, -1, 1) * (1 - np.tanh(x) ** 2),
    },
    clipped_far_out={"fn": np.tanh, "vjp": lambda g, x: np.clip(g, -4, 4) * (1 - np.tanh(x) ** 2)},
    slope_of_the_other_side={
        "fn": models.ramp,
        "vjp": lambda g, x: np.where(x < 0, g, 0),
        "kinks": (0.0,),
    },
    slope_at_the_output={
        "fn": np.exp,
        "vjp": lambda g, x: g * np.exp(np.exp(x)),
        "domain": (-1.0, 1.0),
    },
    writes_into_the_cotangent={"fn": np.tanh, "vjp": doubling},
    writes_into_its_input={"fn": np.tanh, "vjp": spoiling},
    remembers_the_last_call={"fn": remembering, "vjp": remembering.vjp},
    widens_to_double={
        "fn": np.tanh,
        "vjp": lambda g, x: (g * (1 - np.tanh(x) ** 2)).astype(np.float64),
        "dtype": "float32",
    },
    narrows_to_single={
        "fn": np.tanh,
        "vjp": lambda g, x: (g * (1 - np.tanh(x) ** 2)).astype(np.float32),
    },
    an_error={"fn": np.tanh, "vjp": lambda g, x: g @ x},
)


def deep(**options):
    return {"layers": 2, "fn": lambda x, mask: models.model(x, mask, layers=2, **options)}


def ahead(mask, layer=0):
    """Return the mask, in the second layer with an eye one token ahead."""
    return mask | np.eye(mask.shape[-1], k=1, dtype=bool) if layer else mask


def late(q, k, v, mask):
    return (right.softmax(right.scores(q, k)) * mask) @ v


def finite(q, k, v, mask):
    return right.softmax(right.scores(q, k) + np.where(mask, 0, -1e4).astype(q.dtype)) @ v


def unscaled_keys(x, mask):
    """Attention without a norm before it, which a huge row breaks through a finite mask."""
    return x + models.attend(x, mask, models.WEIGHTS[0], finite)


NO_LEAK = planted(
    "no_leak",
    mask_ignored=lambda x, mask: models.model(x, np.ones_like(mask)),
    mask_inverted=lambda x, mask: models.model(x, ~mask),
    mask_transposed=lambda x, mask: models.model(x, np.swapaxes(mask, -1, -2)),
    mask_after_the_softmax=lambda x, mask: models.model(x, mask, attention=late),
    finite_mask_and_no_norm=unscaled_keys,
    second_layer_open=deep(masks=lambda mask, layer: np.ones_like(mask) if layer else mask),
    second_layer_one_token_ahead=deep(masks=ahead),
    one_layer_more_than_said=lambda x, mask: models.model(x, mask, layers=2),
    mask_of_the_first_sequence=lambda x, mask: models.model(
        x, np.repeat(mask[:1], len(mask), axis=0)
    ),
    mask_of_any_sequence=lambda x, mask: models.model(
        x, np.repeat(mask.any(axis=0, keepdims=True), len(mask), axis=0)
    ),
    mean_of_all_rows_added=lambda x, mask: models.model(x, mask) + x.mean(axis=1, keepdims=True),
    normalized_over_the_rows=lambda x, mask: (
        models.model(x, mask) - models.model(x, mask).mean(axis=1, keepdims=True)
    ),
    normalized_over_the_batch=lambda x, mask: models.model(
        x - x.mean(axis=0, keepdims=True) * (len(x) > 1), mask
    ),
    reads_the_neighboring_sequence=lambda x, mask: (
        models.model(x, mask) + np.roll(x, 1, axis=0) * (len(x) > 1)
    ),
    counts_from_the_end=lambda x, mask: models.model(
        x + models.POSITIONS[: x.shape[1]][::-1].astype(x.dtype), mask
    ),
    scaled_by_the_length=lambda x, mask: models.model(x, mask) / x.shape[1],
    only_itself=lambda x, mask: x * 2,
    constant=lambda x, mask: np.zeros_like(x),
    sees_only_the_first_allowed=lambda x, mask: models.model(
        x, np.cumsum(mask, axis=-1) * mask == 1
    ),
    rows_in_another_order=lambda x, mask: models.model(x, mask)[:, ::-1],
    one_row_too_few=lambda x, mask: models.model(x, mask)[:, 1:],
)
