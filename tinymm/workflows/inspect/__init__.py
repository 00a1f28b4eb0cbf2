"""Commands that look at one thing and train nothing.

Read `masks` (which keys each query position attends to), `data` (what is wrong with pictures and
captions) and `ops` (the gradient of each op).
"""
