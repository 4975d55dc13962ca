"""What agents report of their jobs beside logs and results: test cases, coverage, services. Kept and read here."""
