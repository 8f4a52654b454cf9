"""Capacity: how many GPUs a demand needs, from the measured curves of a study, checked by simulation."""
