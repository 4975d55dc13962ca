"""The one way out: every HTTP call that the server makes to somebody else goes through `client.Outbound`.

Bounded in time and size, repeated only where that is harmless, and never to an address inside the operator's network unless
`GOCDNEXT_OUTBOUND_ALLOW` names it. Nothing here knows who is called or why.
"""
