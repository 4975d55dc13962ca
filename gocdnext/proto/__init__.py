"""The wire protocol: `agent.proto` and the modules generated from it (`python3 build.py proto`)."""
