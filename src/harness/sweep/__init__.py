"""Sweep: compose, plan, build, measure, log.

The order of a sweep: compose, plan, build, measure, log; resume; launchers; what a person sees of it.
"""
