"""Log lines: taking them in, live fan-out to readers, and the reading of windows and whole logs."""
