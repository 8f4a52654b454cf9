"""Results: factors, why, roofline, the one row.

Samples to factors, why a quartet has the factor it has, the roofline, the one row of a quartet.
"""
