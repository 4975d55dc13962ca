"""Who calls and what they may do: identity, the role of every route, tokens."""
