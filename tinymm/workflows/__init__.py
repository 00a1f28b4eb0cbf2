"""Chapter 11, a day's work: one file a command, each a function that can be called from Python as well.

Read `train` (the main job; `demo` is `train` with its defaults) with `pictures` and `report`, then what is done with a model: `opened` (how
it is opened), `evaluate`, `classify`, `search`; then `data` and `check`;
then `bench`, whose sides `bench_tinymm` and `bench_torch` run in processes of
their own and measure memory by `bench_memory`.
"""
