"""Chapter 7, weights of others: reading and writing the files in which the papers' models were released, without their frameworks.

Read `safetensors_files`, `pickle_reader` and `torch_files` for how arrays lie in a file (and how a stranger's file is kept from
running anything), `folders` for which file is read, `key_maps` and `clip` for how names and axes correspond, `settings` and `sizes`
for the config, `tokenization` for the words, and `checkpoints` for all of it together.
"""

from .checkpoints import export, load, load_with_report, save
from .tokenization import tokenizer

__all__ = ["export", "load", "load_with_report", "save", "tokenizer"]
