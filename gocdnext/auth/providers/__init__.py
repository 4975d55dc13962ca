"""Signing in by way of somebody else: GitHub, or any OpenID provider (contract-admin 2.2 to 2.4, 7.10).

`registry` knows which providers are in force, `signin` leads a browser there and back, `oidc` and `github` speak with them.
Nothing here knows a request.
"""
