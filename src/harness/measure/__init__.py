"""Measurement: workers, turns, clocks, verification.

Measurement: workers that hold a cell each, a coordinator that gives turns, and the protocol they follow.
"""
