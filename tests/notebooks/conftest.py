"""The notebooks and exercises of this checkout, and the builder as a module."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def build():
    """`notebooks/build.py`, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location(
        "build_notebooks", ROOT / "notebooks" / "build.py"
    )
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module
