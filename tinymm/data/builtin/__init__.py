"""The built-in data sets: drawn here or taken from an installed package, never downloaded.

Read `fonts` and `glyphs` (the default data, drawn from fonts that are already here), `scenes` and
`shapes` (drawn scenes with wrong captions of the same words), `web_pairs` (the same scenes with
captions as the web has them), `sentences` (captions without pictures), `emoji_artists` and `emoji`
(in color: two artists' drawings of the same things) and `digits` (handwritten).
"""
