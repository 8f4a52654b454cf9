"""Techniques: one file each, arch and hw.

Techniques, one file each: `arch` maps a network to a network, `hw` changes how an engine is built or run.
"""
