"""The training run, one for all models, into a run folder.

Read `commands` (`demo` and `train`, derived from the specs of `tinymm.tasks`), `prepare` (the data
and the model that a run begins with), `run` (train, measure, draw), `figures` (what is drawn of a
model, by what it can do) and `capfilt` (BLIP's captions cleaned by a first model).
"""
