"""Where a batch spends its time, by each engine's own profiler and by part of the network."""
