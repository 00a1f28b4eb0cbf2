"""Chapter 3, what the model sees: pictures and the sentences that belong to them, as arrays, with nothing downloaded.

Everything that trains reads a *source*: an object with `batch(indices, rng)`, honest `tests()` and a `tokenizer`. Read
`batches` (what a source hands out), `words` (what one word is), `text` (words become ids), `images` (files become arrays) and
`processors` (what other programs' descriptions of that mean), `augment` (one picture becomes many), `faces` and `glyphs` (the
default data, drawn from fonts that are already here), `scenes` and `shapes` (drawn scenes with wrong captions of the same words),
`web_pairs` (the same scenes with captions as the web has them), `sentences` (captions without pictures), `artists` and `emoji` (in
color: two artists' drawings of the same things), `digits` (handwritten); then your own data: `names` and `splits` (one spelling of
each, and who is trained on), `columns`, `texts`, `captions`, `beside` and `shards` (every common way to write captions down),
`entries` and `listing` (which of them stands at a path), `pairs` (the source made of it), `check` (what is wrong with it), `reading`
(what a model sees of its captions) and `fingerprint` (what a run remembers of it).
"""
