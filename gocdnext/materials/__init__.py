"""Materials: what pipelines wait for, how a repository is asked, what starts a run."""
