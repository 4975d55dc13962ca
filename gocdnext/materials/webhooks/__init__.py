"""Webhooks: what a provider sends becomes revisions, and those become runs; every delivery is kept with its reasons."""
