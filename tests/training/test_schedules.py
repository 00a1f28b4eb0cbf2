"""The learning rate: up a line, down a cosine, never outside its range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import UsageError
from tinymm.training.schedules import warmup_cosine


@given(st.integers(1, 200), st.data(), st.floats(1e-5, 1), st.floats(0, 0.9))
def test_the_shape(steps, data, peak, low):
    warmup = data.draw(st.integers(0, steps))
    floor = low * peak
    rates = [warmup_cosine(step, steps, peak, warmup, floor) for step in range(steps)]
    up, down = rates[:warmup], rates[warmup:]
    assert up == pytest.approx([peak * (i + 1) / warmup for i in range(warmup)])
    assert all(a >= b for a, b in zip(down, down[1:], strict=False)) and all(
        floor - 1e-12 <= rate <= peak for rate in down
    )
    if down:
        middle, ends = (
            (floor + peak) / 2,
            [*down[:-1], floor],
        )  # the last step is read at its middle, or it would be taken for nothing
        assert floor < down[-1] <= (middle if len(down) == 1 else down[-2]) and down[-1] > 0
        assert sum(ends) / len(down) == pytest.approx(middle - (peak - floor) / 2 / len(down))
    if warmup:
        assert rates[warmup - 1] == pytest.approx(peak)


@given(st.integers(2, 50), st.floats(1e-5, 1))
def test_beyond_its_last_step_it_stays_at_the_floor(steps, peak):
    assert warmup_cosine(steps + 5, steps, peak, floor=peak / 10) == pytest.approx(peak / 10)
    assert math.isclose(warmup_cosine(0, steps, 2 * peak), 2 * warmup_cosine(0, steps, peak))


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_longer_than_the_run_is_refused(warmup):
    with pytest.raises(UsageError, match=f"{warmup} of 10 steps came; shorten it"):
        warmup_cosine(0, 10, 1.0, warmup=warmup)
