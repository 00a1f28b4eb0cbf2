"""Chapter 6, the papers: one paper, one file, read top to bottom.

Read the encoders `vit`, `resnet`, `text`, `cbow`, then `clip`, which joins two of them.
"""
