"""Load scenarios: requests that arrive one by one (MLPerf LoadGen), what serves them, and the quartet under load."""
