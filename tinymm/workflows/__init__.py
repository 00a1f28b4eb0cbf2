"""Chapter 11, a day's work: one file a command, each a function that can be called from Python as well.

Read `train` (the main job; `demo` is `train` with its defaults) with `learning` (what every run does at each step), `pictures` and
`report`; `train_towers` (ALBEF and BLIP) with `towers_start`, `capfilt` and `pictures_towers`; `train_blip2` with `blip2_start` and
`pictures_blip2`; `measured` (what is measured of these), `ablate` (what each loss and each mask is for), `ablate_blip` (what wrong captions
cost) and `compare` (all four side by side). Then what is done with a model: `opened` (how it is opened), `evaluate`, `classify`, `search`,
`caption`; then `masks`, `data` and `check`; then `bench`, whose sides `bench_tinymm` and `bench_torch` run in processes of their own and
measure memory by `bench_memory`, and `arithmetic` (what the paper's own scale asks of machines). `flags` is what the command line says of each
training's settings.
"""
