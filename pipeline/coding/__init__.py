"""Coding of weights without loss: entropy codes, gaps between weights, and a file that holds them.

`container.encode_weights` is the way in: what it gives is a whole file, so that its length is the
honest size, with code tables, codebooks, shapes and names in it.
"""
