"""Work that is done now and then, one module each. Every sweeper may run on every server of a database."""
