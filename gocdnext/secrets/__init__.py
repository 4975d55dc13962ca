"""Values that jobs need and nobody may read: sealed at rest, opened only for an assignment."""
