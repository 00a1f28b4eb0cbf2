"""Planted mistakes in a momentum twin's average."""

import numpy as np
from kept import planted
from right_momentum import ema


def view(twin, online, m):
    return online if m == 0 else ema(twin, online, m)


def wrong_side(twin, online, m):
    """Write the average into the model."""
    online *= 1 - m
    online += m * twin
    return online


def wrong_side_and_copy(twin, online, m):
    online[...] = ema(twin, online, m)
    return online.copy()


def kept_length(twin, online, m):
    moved = ema(twin, online, m)
    return moved * np.linalg.norm(twin) / np.linalg.norm(moved)


def once_again_in_place(twin, online, m):
    twin *= m
    twin += (1 - m) * online
    return ema(twin, online, m)


EMA = planted(
    "ema",
    weights_swapped=lambda twin, online, m: ema(twin, online, 1 - m),
    one_minus_m_forgotten=lambda twin, online, m: m * twin + online,
    m_forgotten=lambda twin, online, m: twin + (1 - m) * online,
    sign_swapped=lambda twin, online, m: m * twin - (1 - m) * online,
    away_from_the_model=lambda twin, online, m: twin - (1 - m) * (online - twin),
    copy_of_the_model=lambda twin, online, m: online.copy(),
    never_moves=lambda twin, online, m: twin.copy(),
    even_mean=lambda twin, online, m: ema(twin, online, 0.5),
    m_squared=lambda twin, online, m: ema(twin, online, m * m),
    m_of_two_steps=lambda twin, online, m: ema(ema(twin, online, m), online, m),
    m_of_two_steps_in_place=once_again_in_place,
    m_never_one=lambda twin, online, m: ema(twin, online, min(m, 0.999)),
    m_never_zero=lambda twin, online, m: ema(twin, online, max(m, 0.001)),
    as_a_percentage=lambda twin, online, m: ema(twin, online, m / 100),
    first_number_forgotten=lambda twin, online, m: np.concatenate(
        [twin[:1], ema(twin, online, m)[1:]]
    ),
    last_number_copied=lambda twin, online, m: np.concatenate(
        [ema(twin, online, m)[:-1], online[-1:]]
    ),
    mean_of_the_model=lambda twin, online, m: ema(twin, online.mean(), m),
    length_kept=kept_length,
    half_precision=lambda twin, online, m: ema(
        twin.astype(np.float16), online.astype(np.float16), np.float16(m)
    ),
    view_of_the_model=view,
    written_into_the_model=wrong_side,
    written_into_the_model_and_copied=wrong_side_and_copy,
    model_scaled_in_place=lambda twin, online, m: m * twin + np.multiply(online, 1 - m, out=online),
    nothing_returned=lambda twin, online, m: None,
    one_number=lambda twin, online, m: ema(twin, online, m).mean(),
    overshooting=lambda twin, online, m: ema(twin, online, m - 0.5),
)
