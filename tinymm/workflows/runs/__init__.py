"""The trainings, one run folder each.

Read `clip` (the main job; `demo` is this with its defaults) with `figures_clip`; `towers` (ALBEF
and BLIP) with `towers_setup`, `capfilt` and `figures_towers`; `blip2` with `blip2_setup` and
`figures_blip2`.
"""
