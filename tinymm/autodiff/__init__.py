"""Chapter 2, numbers that remember: Tensor, the catalogue of ops, backward, and how to check a gradient.

Read `graph` (Tensor, `@op`, backward and NumPy's two questions), with `signature` and `answers` beside it, then the rules in `ops/`, then `verify`.
"""

from . import ops
from .graph import CATALOGUE, Op, Tensor, checking, no_grad, op
from .verify import gradcheck

__all__ = ["CATALOGUE", "Op", "Tensor", "checking", "gradcheck", "no_grad", "op", "ops"]
