"""What the errors of moving a job's files have in common."""

from __future__ import annotations


class DeliveryError(Exception):
    """Something that a job takes in or hands out cannot be found, packed or moved; the text is for the user."""
