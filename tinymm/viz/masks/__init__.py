"""Attention masks: which keys each query position attends to, in a terminal and on paper.

Read `cells` (what a cell means), `text` (in a terminal), `figure` (on paper) and `objectives` (the
masks of ALBEF, BLIP and BLIP-2).
"""
