"""tinymm: vision-language models understood, from `np.exp` to BLIP-2. Folders in alphabetical order are the chapters.

1  arrays      where numbers live
2  autodiff    numbers that remember how they were made
3  data        what the model sees
4  layers      the parts
5  losses      what we ask for
6  models      the papers
7  pretrained  weights of others
8  tasks       what each paper asks in one training step
9  testing     properties for anyone
10 training    how it learns
11 viz         how we look inside
12 workflows   a day's work, one folder a kind of command

A chapter imports only chapters above it in this list. Inside a chapter, a folder's own files come
first, then its folders in alphabetical order: a file imports files beside it, files of the folders
that it lies in, and folders that sort before its own. `import tinymm` imports NumPy and nothing
else.
"""

import sys

from .arrays.errors import not_installed

try:
    from .autodiff import Tensor, no_grad
except ModuleNotFoundError as missing:
    if missing.name != "numpy":
        raise
    if sys.argv[:1] == ["-m"]:  # `python -m tinymm` comes here before it comes to __main__
        print(f"tinymm: {not_installed(missing)}", file=sys.stderr)
        raise SystemExit(2) from None
    raise ModuleNotFoundError(not_installed(missing), name="numpy") from None

__version__ = "0.1.0"
__all__ = ["Tensor", "__version__", "no_grad"]
