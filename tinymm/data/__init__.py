"""Chapter 3, data: images and their captions as arrays, nothing downloaded.

Everything that trains reads a *source*: an object with `batch(indices, rng)`, honest `tests()` and
a `tokenizer`. Read `batches` (what a source hands out), `datasets` (which sources have a name, and
how yours gets one), `words` (what one word is), `text` (words
become ids), `images` (files become arrays), `processors` (what other programs' descriptions of that
mean) and `augment` (one picture becomes many). Then two folders of sources: `builtin/` (data sets
that are drawn here or installed) and `your_data/` (your own pictures and captions).
"""
