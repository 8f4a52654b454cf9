"""System: errors, processes, files, the cache, this machine.

What knows nothing of the field: errors, processes, files, caches, secrets, what this machine is.
"""
