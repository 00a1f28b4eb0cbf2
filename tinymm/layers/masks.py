"""Attention masks: boolean arrays (…, Tq, Tk) in which True = this query (row) may attend to this key (column).

Masks combine with `&` (both allow) and `|` (either allows) and broadcast to (B, H, Tq, Tk). There
is no additive mask and no 0/1 number anywhere; loaders of foreign weights convert at the border.
Tokens carry `is_real` (B, T): False marks padding. A mask lives where its `is_real` does, which is
the host unless a device has drawn which texts are meant.
"""

import numpy as np

from tinymm.arrays.backend import array_module, to_device_like
from tinymm.arrays.errors import DtypeError, ShapeError


def causal_mask(T: int) -> np.ndarray:
    """Return the causal mask (T, T): a token attends to itself and to what came before it (CLIP §2.4, "masked self-attention").

    >>> causal_mask(3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    return np.tri(T, dtype=bool)


def padding_mask(is_real: np.ndarray) -> np.ndarray:
    """Return the padding mask (B, 1, 1, T): every query attends to the real tokens only: is_real (B, T) boolean.

    Columns are blocked, not rows: what a padding token itself computes has no effect, since no
    query attends to it. DtypeError or ShapeError for marks that are not boolean (B, T), here and in
    the three masks below.

    >>> padding_mask(np.array([[True, False]])).shape
    (1, 1, 1, 2)
    """
    return check_is_real(is_real)[:, None, None, :]


def prefix_mask(prefix: int, T: int) -> np.ndarray:
    """Return the prefix mask (T, T): all attend to the first `prefix` tokens, the rest also causally (Dong et al. 2019, UniLM).

    ShapeError for a prefix outside [0, T].

    >>> prefix_mask(2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    if not 0 <= prefix <= T:
        raise ShapeError(
            f"prefix_mask: the prefix lies in [0, T] and {prefix} of {T} came; shorten it or lengthen the sequence"
        )
    return causal_mask(T) | (np.arange(T) < prefix)


def cross_mask(may_look: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return a cross-attention mask (B, 1, Tq, Tk): queries marked in `may_look` (B, Tq) attend to the real keys, is_real (B, Tk).

    Rows that may not look see nothing at all; attention gives them zeros. ShapeError for batches of
    different sizes; DtypeError for marks that are not boolean.

    >>> cross_mask(np.array([[True, False]]), np.array([[True, True, False]]))[0, 0].astype(int)
    array([[1, 1, 0],
           [0, 0, 0]])
    """
    rows, columns = check_is_real(may_look), check_is_real(is_real)
    if len(rows) != len(columns):
        raise ShapeError(
            f"cross_mask: both sides are batches of one size and {rows.shape} and {columns.shape} came; pair them row by row"
        )
    return rows[:, None, :, None] & columns[:, None, None, :]


def unimodal_mask(Q: int, is_real: np.ndarray) -> np.ndarray:
    """Return (B, 1, Q+T, Q+T) for ITC: queries attend to queries, text to text, neither to the other (BLIP-2 §3.2, Figure 2).

    The order is [queries ; text], is_real (B, T). Either side must be described by its own modality
    alone, since the two are then compared.

    >>> unimodal_mask(2, np.array([[True, True, False]]))[0, 0].astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 1, 1, 0]])
    """
    is_query, real = _queries_and_text(Q, is_real)
    return real & (is_query[:, None] == is_query)


def multimodal_causal_mask(Q: int, is_real: np.ndarray) -> np.ndarray:
    """Return (B, 1, Q+T, Q+T) for ITG: queries attend to queries only, a token to all queries and causally to the text (BLIP-2 §3.2, Figure 2).

    Text gets the image through the queries only. If the queries attended to the text, they would
    leak the next token.

    >>> multimodal_causal_mask(2, np.array([[True, True, False]]))[0, 0].astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 1, 1, 0]])
    """
    _, real = _queries_and_text(Q, is_real)
    return real & to_device_like(prefix_mask(Q, Q + is_real.shape[1]), is_real)


def bidirectional_mask(Q: int, is_real: np.ndarray) -> np.ndarray:
    """Return (B, 1, Q+T, Q+T) for ITM: all attend to all queries and all real tokens (BLIP-2 §3.2, Figure 2).

    >>> bidirectional_mask(2, np.array([[True, True, False]]))[0, 0].astype(int)[0]
    array([1, 1, 1, 1, 0])
    """
    is_query, real = _queries_and_text(Q, is_real)
    return np.repeat(real, len(is_query), axis=2)


def _queries_and_text(Q: int, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of [queries ; text] are queries, (Q+T,), and which columns may be attended to at all, (B, 1, 1, Q+T)."""
    if Q < 0:
        raise ShapeError(
            f"the number of queries is 0 or more and {Q} came; use the length of the model's query tokens"
        )
    B, T = check_is_real(is_real).shape
    module = array_module(is_real)
    return module.arange(Q + T) < Q, padding_mask(
        np.concatenate([module.ones((B, Q), bool), is_real], axis=1)
    )


def reachability(masks: list[np.ndarray]) -> np.ndarray:
    """Return (…, T, T): which input each output may depend on after a stack of layers with these masks and residual links.

    One layer lets row i depend on itself and on all that it sees; the next composes. A stack of
    causal layers stays causal; a leak of one token a layer becomes a leak of L tokens. ShapeError
    without any mask.

    >>> reachability([np.eye(3, k=-1, dtype=bool)] * 2).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    if not masks:
        raise ShapeError(
            "reachability needs the mask of at least one layer and none came; pass [mask] * layers"
        )
    reach = None
    for mask in map(check_mask, masks):
        seen = mask | np.eye(mask.shape[-1], dtype=bool)
        reach = seen if reach is None else seen @ reach
    return reach  # type: ignore[return-value]


def check_mask(mask: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the mask if it is boolean with at least two axes and broadcasts to `shape`; DtypeError or ShapeError otherwise."""
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind != np.dtype(bool):
        raise DtypeError(
            f"a mask is boolean with True = may attend, and {kind} came; write mask.astype(bool), or additive == 0 if it holds 0 and -inf"
        )
    if mask.ndim < 2:
        raise ShapeError(
            f"a mask has rows that look and columns that are looked at, and {mask.shape} came; use padding_mask(is_real)"
        )
    # Length by length from the back, because a mask that is longer than the scores would stretch them.
    if shape is not None and (
        mask.ndim > len(shape)
        or any(m not in (1, n) for m, n in zip(mask.shape[::-1], shape[::-1], strict=False))
    ):
        raise ShapeError(
            f"a mask broadcasts to {shape}, rows that look before columns, and {mask.shape} came; make it for these lengths"
        )
    return mask


def check_is_real(is_real: np.ndarray) -> np.ndarray:
    """Return `is_real` if it is boolean (B, T); DtypeError or ShapeError otherwise."""
    kind = getattr(is_real, "dtype", type(is_real).__name__)
    if kind != np.dtype(bool):
        raise DtypeError(
            f"is_real is boolean with True = a real token, and {kind} came; write ids != padding_id"
        )
    if is_real.ndim != 2:
        raise ShapeError(
            f"is_real is (B, T) and {is_real.shape} came; add the batch axis with is_real[None]"
        )
    return is_real
