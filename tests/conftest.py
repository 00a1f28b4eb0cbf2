"""Hypothesis profiles, the backends that a test of arrays runs on, and what two processes of tests share out."""

import os
import signal
import sys

import pytest
import strict_array  # registers the backend "strict"
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

# The tests' matrices are small: a second thread of the matrix library would only wait for the
# first, at full speed.
ONE_THREAD = threadpool_limits(limits=1, user_api="blas")

settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile(
    "ci",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick")
)


#: Said to this run of pytest, and not to those that tests start.
os.environ.pop("PYTEST_ADDOPTS", None)

# A shell that starts this in its background has it ignore Ctrl-C, and so would the commands that
# are stopped here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Let CuPy's hints about speed be printed: warnings are errors here, and a class that may not be installed cannot be named in pyproject."""
    if "cupy" in sys.modules:
        config.addinivalue_line("filterwarnings", "default::cupy._util.PerformanceWarning")


#: Files whose tests share nothing and take long: two processes (`-n 2 --dist loadfile`) share these
#: out test by test.
BY_TEST = ("test_notebook_build.py", "test_our_numbers.py", "test_properties.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file in one process, where its fixtures are, but for those of the files above."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return nodeid if file.endswith(BY_TEST) else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(
    params=[
        "numpy",
        strict_array.NAME,
        pytest.param(
            "cupy",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(bool(strict_array.NO_GPU), reason=strict_array.NO_GPU),
            ],
        ),
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
