"""Several trainings, side by side.

Read `ablate_blip2` (what each loss and each mask is for), `ablate_blip` (what wrong captions cost),
`ablate_albef` (what momentum encoder, queue and hard negatives are for) and `compare` (all four
models). `commands` declares the commands that train.
"""
