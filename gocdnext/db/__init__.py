"""The database: an embedded PostgreSQL or an external one, its pool, statements, migrations and notifications."""
