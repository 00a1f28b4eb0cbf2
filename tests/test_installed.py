"""As the README installs it, the package is found from everywhere, also from the folder that holds the clone, which has its name."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import tinymm

ROOT = Path(tinymm.__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("way", [["-e"], []], ids=["editable", "plain"])
def test_beside_the_clone_it_is_the_package_that_is_found(way, tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    clone = tmp_path / "tinymm"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "tinymm", clone / "tinymm", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*command):
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/usr/bin:/bin"},
        ).stdout

    run(sys.executable, "-m", "venv", "--without-pip", "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    others = Path(numpy.__file__).parents[1]
    wanted = ["setuptools*", "_distutils_hack", "numpy*", "scipy*", "threadpoolctl*"]
    for found in (item for pattern in wanted for item in others.glob(pattern)):
        (Path(place) / found.name).symlink_to(found)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        *way,
        "./tinymm",
    )
    assert run(python, "-m", "tinymm", "--version").strip() == f"tinymm {tinymm.__version__}"
    run(python, "-c", "from tinymm import Tensor")
