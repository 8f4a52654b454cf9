"""A sweep on many devices: which launcher, jobs in other processes and on other hosts, a device for each."""
