"""Chapter 6, the papers: one paper, one file, read top to bottom.

Read the encoders `vit`, `resnet`, `text`, `cbow`, then `clip`, which joins two of them, and `cost`,
what that costs. Then `bert` (text that looks both ways, and at an image), `momentum` (the momentum
encoder and the feature queue) and `dual_encoder` (an image and a text encoder with a shared
embedding space), on which `albef` and `blip` build. Then `qformer` (queries and words under one of
three masks) and `blip2` (its first stage); `opt` (a language model) and `decoding` (how any of them
writes), and `blip2_stage2`, which puts the two together.
"""
