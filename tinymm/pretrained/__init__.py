"""Chapter 7, weights of others: reading and writing the files in which the papers' models were released, without their frameworks.

Read `safetensors_files`, `pickle_reader` and `torch_files` for how arrays lie in a file (and how a stranger's file is
kept from running anything), `folders` for which file is read, `key_maps` with `clip`, `bert`, `opt`, `blip2` and
`towers` (ALBEF, BLIP) for how names and axes correspond, `unwrapped` for what training programs put around them,
`settings`, `open_clip_settings` and `sizes` (CLIP) or `config_classes`, `blip2_settings`, `towers_settings` and `measured` (the others)
for the config, `frozen` for the parts that some files lack, `positions` for pictures of another size, `preprocessing`
for the pictures, `cleaning`, `tokenization`, `wordpiece` and `learned` for the words, `families` for which models there are, and
`checkpoints` for all of it together.
"""

from .store.checkpoints import export, load, load_with_report, save
from .store.preprocessing import preprocess
from .tokenizers.bpe import tokenizer

__all__ = ["export", "load", "load_with_report", "preprocess", "save", "tokenizer"]
