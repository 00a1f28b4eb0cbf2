"""Explorers: drawings that answer to pointer and keyboard, in a notebook or as their own page.

Read `explorer` (a complete SVG with its numbers, and a script that fetches nothing; its style and
script are files of the same name), then `masks` (its cells are drawn by `mask_svg`), `similarity`
and `attention`, each with a script of the same name. `.save` writes a page. `lesson` is what the
notebooks say between the pictures: a figure with its numbers, a guess beside the truth.
"""
