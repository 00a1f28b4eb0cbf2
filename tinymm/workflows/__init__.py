"""Chapter 12, a day's work: the commands, each a function that can be called from Python as well.

Read `open_model` (how a model is opened), `run_folder` (how a run begins, goes on and is finished),
`run_loop` (what it does at each step), `terminal` (what it prints), `sources` (the data of a
model), `measure` (what is measured of one, by its abilities), `meanings` (what that is in words)
and `report` (the page of a run). `words` chooses what texts are cut into, `flags` is what the
command line says of each training's settings, `commands` is how a command is declared in its own
file, and `mpiexec` is how a command runs on several ranks.

Then the folders: `bench/` (times and memory), `course/` (the notebooks' exercises), `inspect/`
(masks, data and gradients), `runs/` (the trainings), `studies/` (trainings compared) and `use/`
(what is done with a trained model).
"""
