"""GitHub, GitLab and Bitbucket as the server calls them: hooks that are registered, statuses that are told.

What they send to the server is in `materials.webhooks`. Every call goes through `gocdnext.outbound`.
"""
