"""Roofline: what a cell must compute and move, what the machine can at most, how near a measurement came.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.
"""
