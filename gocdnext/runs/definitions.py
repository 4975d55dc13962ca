"""The definitions that runs were made from. They never change, so a server reads each of them once."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

import msgspec

from gocdnext.db import queries
from gocdnext.db.pool import Connection
from gocdnext.pipeline.model import Notification, Pipeline, decode

_SQL = queries.load("runs")
KEPT = 512
"""Definitions kept in memory; the least recently used one goes first."""


_NOTIFICATIONS = msgspec.json.Decoder(tuple[Notification, ...])


def decode_notifications(text: str) -> tuple[Notification, ...]:
    """A list of notifications as it is stored with a project or a run."""
    return _NOTIFICATIONS.decode(text)


class Definitions:
    """A bounded cache over `pipeline_definitions`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, Pipeline] = OrderedDict()

    def known(self, definition_id: UUID) -> Pipeline | None:
        """The definition of that id, if it was read before."""
        return self._kept.get(definition_id)

    async def get(self, conn: Connection, definition_id: UUID) -> Pipeline:
        """The definition of that id. Raises KeyError when there is none."""
        known = self._kept.get(definition_id)
        if known is not None:
            self._kept.move_to_end(definition_id)
            return known
        text = await conn.fetchval(_SQL.definition, definition_id)
        if text is None:
            raise KeyError(definition_id)
        definition = self._kept[definition_id] = decode(text)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return definition
