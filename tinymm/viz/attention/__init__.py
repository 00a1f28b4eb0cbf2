"""Where attention goes, drawn on the picture and the words.

Read `maps` (what the layers attend to), `grounding` (which part of the picture a word owes its
match to, beside two controls) and `queries` (which query of BLIP-2 wins, and what each attends to).
"""
