"""The families of released models: names and axes of their arrays, and their configs.

Read `config_from_arrays` (what the shapes alone tell) and `config_classes` (what a config.json
leaves to its class), which all but CLIP share. CLIP: `open_clip_config`, `clip_config`,
`clip_sizes` and `clip`. Language: `bert` and `opt`. BLIP-2: `blip2_config` and `blip2`. ALBEF and
BLIP: `albef_blip_config` and `albef_blip`. Then `positions` (images of another size), `frozen`
(parts that some files lack), `families` (which models there are, and in which layouts) and `own`
(models of one's own).
"""
