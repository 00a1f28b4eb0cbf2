"""Your own functions in the library's place: `use_mine("my_solutions.py")`, then train CLIP on your mask, your attention and your loss.

Each function that the file defines under a name of `KNOWN` is checked by its suite and, where
gradients must flow, run on Tensors beside ours; one that passes both takes the place of ours in
every loaded module. Since Tensors answer NumPy, what you wrote for arrays carries gradients.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinymm.arrays.errors import TinymmError, UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import Op, Tensor, ops
from tinymm.layers import masks
from tinymm.layers.attention import _maps
from tinymm.layers.attention import attention as layers_attention
from tinymm.losses import contrastive
from tinymm.tasks import clip
from tinymm.training import evaluate

from .own_code import load

VARIABLE = "TINYMM_MINE"


@dataclass(frozen=True)
class Known:
    """A function of the course: its check with the contract it was set under, and what of the library it can replace.

    `ways` are library functions, each with a maker of its replacement, which gets (the student's,
    ours). `sample` gives arrays and how to call a function on them: there the first replacement and
    ours must agree in value and gradient. Without it nothing flows back.
    """

    name: str
    suite: str
    ways: list[tuple[Callable, Callable[[Callable, Callable], Callable]]]
    sample: Callable[[], tuple[tuple, Callable]] | None = None
    contract: dict[str, Any] = field(default_factory=dict)
    checked: Callable[[Callable], tuple] = lambda fn: (fn,)


def use_mine(*paths: str | os.PathLike) -> "Mine":
    """Put the functions of .py files or notebooks in the place of ours, print a line for each, and return what takes it back.

    Without a path the environment's TINYMM_MINE names them. The files are executed, so they must be
    your own. A second call begins from ours again. UsageError where nothing is defined that the
    table knows.
    """
    chosen = [str(path) for path in paths] or list(
        filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    )
    if not chosen:
        raise UsageError(
            f'use_mine takes your file, and 0 came; write use_mine("my_solutions.py"), or set {VARIABLE}'
        )
    if Mine.active:
        Mine.active.restore()
    names: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for path in chosen:
        found, raised = load(path)
        names.update(found)
        problems.update(raised)
    mine = Mine()
    came = [one for one in KNOWN if callable(names.get(one.name))]
    if not came:
        known, first = (
            ", ".join(one.name for one in KNOWN),
            "".join(f"; {place} raised {said}" for place, said in list(problems.items())[:1]),
        )
        raise UsageError(
            f"use_mine knows {known}, and 0 of them are defined in {', '.join(chosen)}{first}; name your functions so"
        )
    for one in came:
        reason = refusal(one, names[one.name])
        if not reason:
            mine.put(one, names[one.name])
        print(f"{one.name:<16} {f'ours: {reason}' if reason else 'yours'}")
    Mine.active = mine
    return mine


class Mine:
    """What was replaced; `restore()`, or the end of a `with` block, puts ours back."""

    active: "Mine | None" = None

    def __init__(self) -> None:
        self.yours: list[str] = []
        self._replaced: list[tuple[Any, Any]] = []

    def put(self, one: Known, fn: Callable) -> None:
        """Replace what a student's function stands for."""
        self.yours.append(one.name)
        for ours, way in one.ways:
            replacement = way(fn, ours)
            _exchange(ours, replacement)
            self._replaced.append((ours, replacement))

    def restore(self) -> None:
        """Put ours back everywhere, also in modules that were imported in between."""
        for ours, replacement in reversed(self._replaced):
            _exchange(replacement, ours)
        self._replaced.clear()
        Mine.active = None if Mine.active is self else Mine.active

    def __enter__(self) -> "Mine":
        return self

    def __exit__(self, *_: Any) -> None:
        self.restore()


def _exchange(old: Any, new: Any) -> None:
    """Put `new` wherever a loaded module of the library holds `old`; the table of this file keeps ours."""
    for name, module in list(sys.modules.items()):
        if (
            name.partition(".")[0] == "tinymm"
            and name != __name__
            and not name.startswith("tinymm.testing")
        ):
            for attribute in [
                attribute for attribute, value in list(vars(module).items()) if value is old
            ]:
                setattr(module, attribute, new)


def refusal(one: Known, fn: Callable) -> str:
    """Return why a function does not take the place of ours, or an empty text; UsageError where Hypothesis is missing."""
    try:
        from tinymm.testing import PropertyFailed
        from tinymm.testing.check import CHECKS
    except ModuleNotFoundError as error:
        raise UsageError(
            f"use_mine checks your functions with Hypothesis, and {error.name} is not installed; pip install hypothesis"
        ) from None
    try:
        CHECKS[one.suite](*one.checked(fn), **one.contract)
    except PropertyFailed as failed:
        return f"{failed.failed[0]} broke, {str(failed).splitlines()[1][:100]}"
    return _differs(one, fn) if one.sample else ""


def _differs(one: Known, fn: Callable) -> str:
    """Run the replacement on Tensors beside ours; say what differs in value or gradient, or an empty text."""
    assert one.sample is not None
    arrays, call = one.sample()
    ours, way = one.ways[0]
    found = []
    for function in (ours, way(fn, ours)):
        inputs = [Tensor(array, requires_grad=True) for array in arrays]
        try:
            with np.errstate(all="ignore"):
                out = call(function, *inputs)
                np.sum(out * generator(1).standard_normal(out.shape)).backward()
        except (TinymmError, TypeError, ValueError, AttributeError, IndexError) as error:
            return f"right on arrays, but not on Tensors ({' '.join(str(error).split())[:140]})"
        found.append(
            [out.data, *(np.zeros_like(x.data) if x.grad is None else x.grad for x in inputs)]
        )
    for place, (a, b) in enumerate(zip(*found, strict=True)):
        if a.shape != b.shape or not np.allclose(a, b, rtol=1e-6, atol=1e-8):
            return (
                "another value than ours on Tensors"
                if place == 0
                else f"no gradient, or another, for argument {place - 1}: it left the Tensors"
            )
    return ""


# ---------------------------------------------------------------------- the table
def _like(result: Any, x: Any) -> Any:
    """Return a result in the dtype of the model: np.sqrt(64) is a float64 and would widen it."""
    return result if result.dtype == x.dtype else result.astype(x.dtype)


def _normals(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    rng = generator(0)
    return tuple(rng.standard_normal(shape) for shape in shapes)


def _padding(fn: Callable, ours: Callable) -> Callable:
    # what some row sees is real, whether rows of padding see it or not; the library's shape is (B, 1, 1, T)
    return lambda is_real: np.broadcast_to(
        fn(masks.check_is_real(is_real)), (len(is_real), 1, *is_real.shape[1:] * 2)
    ).any(axis=2, keepdims=True)


def _attention(fn: Callable, ours: Callable) -> Callable:
    def attention(q: Any, k: Any, v: Any, may_attend: Any = None) -> Any:
        if _maps.get() is not None:  # whoever records the weights needs ours, which gives them
            return ours(q, k, v, may_attend)
        shape = (*q.shape[:-1], k.shape[-2])
        allowed = (
            np.ones(shape[-2:], bool) if may_attend is None else masks.check_mask(may_attend, shape)
        )
        return _like(fn(q, k, v, allowed), q)

    return attention


def _self_attention(fn: Callable, ours: Callable) -> Callable:
    def self_attention(qkv: Any, may_attend: Any = None, heads: int = 1) -> Any:
        B, T, packed = qkv.shape
        q, k, v = np.transpose(
            np.reshape(qkv, (B, T, 3, heads, packed // (3 * heads))), (2, 0, 3, 1, 4)
        )  # each (B, H, T, Dh)
        allowed = np.ones((T, T), bool) if may_attend is None else may_attend
        return np.reshape(
            np.swapaxes(_like(fn(q, k, v, allowed), qkv), 1, 2), (B, T, packed // 3)
        )  # (B, T, D)

    return self_attention


def _figure_3(fn: Callable, ours: Callable) -> Callable:
    def figure_3(
        image_encoder: Any, text_encoder: Any, I: Any, T: Any, W_i: Any, W_t: Any, t: Any
    ) -> Any:
        I_e, T_e, scale = np.dot(image_encoder(I), W_i), np.dot(text_encoder(T), W_t), np.exp(t)
        logits = (
            np.dot(contrastive.l2_normalize(I_e, axis=1), contrastive.l2_normalize(T_e, axis=1).T)
            * scale
        )
        return _like(fn(I_e, T_e, scale), I_e), logits

    return figure_3


def _unit(fn: Callable, ours: Callable) -> Callable:
    rule = Op(lambda x: (fn(x, x)[0], lambda g: fn(g, x)[1]), "(...,n)->(...,n)", catalogued=False)

    def l2_normalize(x: Any, axis: int = -1) -> Any:
        if axis not in (-1, x.ndim - 1):
            return ours(x, axis)
        return rule(x) if isinstance(x, Tensor) else fn(x, x)[0]

    return l2_normalize


def _recall(fn: Callable, ours: Callable) -> Callable:
    def recall_at_k(scores: Any, k: int, is_match: Any = None, ties: str = "against") -> Any:
        plain = is_match is None and ties == "against" and scores.shape[0] == scores.shape[1]
        return float(fn(scores, k)) if plain else ours(scores, k, is_match, ties)

    return recall_at_k


def _objective(name: str) -> Callable[[Callable, Callable], Callable]:
    return lambda fn, ours: lambda Q, is_real: np.asarray(fn(Q, masks.check_is_real(is_real), name))


KNOWN = [
    Known(
        "causal_mask",
        "causal_mask",
        [(masks.causal_mask, lambda fn, ours: lambda T: np.asarray(fn(T)))],
    ),
    Known("padding_mask", "padding_mask", [(masks.padding_mask, _padding)]),
    Known(
        "prefix_mask",
        "prefix_mask",
        [(masks.prefix_mask, lambda fn, ours: lambda prefix, T: np.asarray(fn(prefix, T)))],
    ),
    Known(
        "three_masks",
        "qformer_masks",
        [
            (masks.unimodal_mask, _objective("itc")),
            (masks.multimodal_causal_mask, _objective("itg")),
            (masks.bidirectional_mask, _objective("itm")),
        ],
    ),
    Known(
        "attention",
        "attention",
        [(ops.self_attention, _self_attention), (layers_attention, _attention)],
        lambda: (
            _normals((2, 4, 12)),
            lambda f, qkv: f(qkv, may_attend=np.tri(4, dtype=bool), heads=2),
        ),
    ),
    Known(
        "layer_norm",
        "layer_norm",
        [
            (
                ops.layer_norm,
                lambda fn, ours: lambda x, gain, bias, eps=1e-5: _like(fn(x, gain, bias, eps), x),
            )
        ],
        lambda: (_normals((3, 5), (5,), (5,)), lambda f, x, gain, bias: f(x, gain, bias, eps=1e-5)),
    ),
    Known(
        "unit_and_vjp",
        "vjp",
        [(contrastive.l2_normalize, _unit)],
        lambda: (_normals((3, 5)), lambda f, x: f(x)),
        {"domain": (0.2, 2.0)},
        lambda fn: (lambda x: fn(x, x)[0], lambda g, x: fn(g, x)[1]),
    ),
    Known(
        "contrastive_loss",
        "contrastive_loss",
        [(clip.figure_3, _figure_3)],
        lambda: (
            _normals((4, 5), (4, 5), ()),
            lambda f, I, T, t: f(lambda x: x, lambda x: x, I, T, np.eye(5), np.eye(5), t)[0],
        ),
    ),
    Known(
        "sigmoid_loss",
        "sigmoid_loss",
        [(contrastive.sigmoid_loss, lambda fn, ours: lambda logits: _like(fn(logits), logits))],
        lambda: (_normals((4, 4)), lambda f, logits: f(logits)),
    ),
    Known(
        "best_query",
        "max_over_queries",
        [(contrastive.max_over_queries, lambda fn, ours: lambda I, T: _like(fn(I, T), I))],
        lambda: (_normals((3, 2, 5), (4, 5)), lambda f, I, T: f(I, T)),
    ),
    Known("recall", "recall", [(evaluate.recall_at_k, _recall)]),
]
