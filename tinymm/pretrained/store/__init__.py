"""A whole model as a file or folder: loaded with a report of what was found, saved, exported.

Read `checkpoints` (the model) and `preprocessing` (how its images are prepared).
"""
