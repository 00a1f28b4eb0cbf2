"""Pictures and captions that find each other, or do not.

Read `similarity` (the matrix that CLIP is about), `filmstrip` (the same at several steps, over its
loss) and `gallery` (queries with what they found, failures first).
"""
