"""Report: tables, figures, the page, comparison.

Reports: what a sweep found, for a person to read.
"""
