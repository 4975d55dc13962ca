"""Projects: apply, and reading projects, runs and agents for people."""
