"""Runs: the heart. State, transitions and dispatch are pure; the store, the service and the scheduler do the I/O."""
