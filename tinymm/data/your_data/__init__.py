"""Your own pictures and captions: how they are found, read, checked and remembered.

Read `names` and `splits` (one spelling of each, and who is trained on), `columns`, `texts`,
`captions`, `shards` and `beside` (every common way to write captions down), `fingerprint` (what a
run remembers of its data), `entries` and `listing` (which of these ways a path has), `reading`
(what a model sees of the captions), `check` (what is wrong with the data), `pairs` (the source
made of it) and `open` (data by its name or its path).
"""
