"""Chapter 8, property-based tests: what every mask, loss and metric of a kind must do, run against any callable.

`check.contrastive_loss(my_loss)` draws hundreds of small cases and either says what holds or fails
with five lines: which property broke, what was found, the smallest input that breaks it, why it
matters, and the likely mistake. Arrays go in and arrays come out, so a function of any library can
be checked; `on_torch`, `on_jax` and `on_cupy` adapt one of PyTorch, JAX or CuPy.

Read `strategies` (what is drawn), `contract` (what is promised) and `suite` (how a property is
declared and run), `hints` (what a check says that keeps failing), `adapters` (what makes a function
of another library one of arrays), and the tables behind "likely cause": `causes`, `causes_blip2`,
`causes_momentum` and `causes_models`. Then `check/`, one file a suite and the door to all of them,
and `pytest_plugin/`, the same for pytest. A further suite is a file of its own in `check/` with a
`Contract` and a `Suite`; one of yours, in a file of yours, joins them with `check.register`.

Nothing is proved about speed, training dynamics, or values outside the drawn ranges: sizes up to 8,
normal numbers.
"""

try:
    import hypothesis  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"checks draw their cases with Hypothesis, and {missing.name} is not installed; "
        'pip install -c constraints.txt -e ".[notebooks]" in the checkout brings it, as the extra test does',
        name=missing.name,
    ) from None

from . import check
from .adapters import on_cupy, on_jax, on_torch
from .contract import PropertyFailed

__all__ = ["PropertyFailed", "check", "on_cupy", "on_jax", "on_torch"]
