"""The agent process: it dials the server, takes jobs, runs them and sends back lines and results (protocol-agent 3).

It talks to the server over gRPC only; nothing in this package may import the server's rooms (database, HTTP, runs).
"""
