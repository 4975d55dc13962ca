"""The plugins that come with the program and those that an operator adds: where they are, and what they take.

Nothing here runs a plugin: that is an agent's work (`gocdnext.agent.plugins`).
"""
