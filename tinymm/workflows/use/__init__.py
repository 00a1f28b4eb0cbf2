"""What is done with a trained model.

Read `evaluate` (its numbers beside chance), `classify`, `search` and `caption`.
"""
