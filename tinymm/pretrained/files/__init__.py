"""The files in which weights are released, read as arrays of NumPy and nothing else.

Read `safetensors` (the format that is written, too), `pickle_reader` (a reader that knows a handful
of names and calls nothing else) and `torch` (the checkpoints of PyTorch, read by it), `unwrapped`
(what training programs put around the weights) and `folders` (which file of a folder is read).
"""
