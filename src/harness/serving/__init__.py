"""Serving: requests under load, batcher, search.

Load scenarios: requests that arrive one by one (MLPerf LoadGen), and what serves them.
"""
