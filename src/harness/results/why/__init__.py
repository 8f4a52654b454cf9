"""Why a quartet has the factor it has: time by part of the network from each engine's own profiler, after timing."""
