"""Chapter 7, weights of others: the files of the papers' models, read and written here.

Read `key_maps` for how names and axes correspond. Then the folders: `files/` (how arrays are stored
in a file, and how a stranger's file is kept from running anything), `models/` (one file or two for
each family: its keys and its config), `store/` (a whole model and its preprocessing, loaded and
saved) and `tokenizers/` (the words). The names below are all that most callers need.
"""

from .store.checkpoints import export, load, load_with_report, save
from .store.preprocessing import preprocess
from .tokenizers.bpe import tokenizer

__all__ = ["export", "load", "load_with_report", "preprocess", "save", "tokenizer"]
