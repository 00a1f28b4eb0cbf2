"""Hypothesis profiles, and the backends that a test of arrays runs on."""

import os

import pytest
import strict_array  # registers the backend "strict"
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from tinymm.arrays.backend import find_backend
from tinymm.arrays.errors import DeviceError

# The tests' matrices are small: a second thread of the matrix library would only wait for the first, at full speed.
ONE_THREAD = threadpool_limits(limits=1, user_api="blas")

settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))



def no_gpu():
    """Say why the backend cupy cannot be used here; the wheel alone is no GPU."""
    try:
        find_backend("cupy")
    except DeviceError as problem:
        return str(problem)
    return ""


NO_GPU = no_gpu()


@pytest.fixture(
    params=[
        "numpy",
        strict_array.NAME,
        pytest.param("cupy", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)]),
    ]
)
def backend(request):
    """Give the name of a backend, for `to_backend` and `Module.to`."""
    return request.param


@pytest.fixture
def torch():
    """PyTorch on one thread: with matrices of a few numbers, starting threads costs more than the sums."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)
