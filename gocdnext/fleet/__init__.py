"""The server's side of agents: the gRPC service, sessions, assignments and results (protocol-agent 1 and 2)."""
