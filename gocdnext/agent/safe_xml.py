"""XML files of jobs, element by element (protocol-agent 3.12, 3.13): entities refused, size and depth bounded.

A test report or coverage report is whatever a job wrote. The meaning of elements is other modules' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, EntitiesForbidden
from defusedxml.ElementTree import iterparse

from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Check, never

MAX_DEPTH = 100
STEP = 1000
"""Events between two checks."""


class XmlError(DeliveryError):
    """The file cannot be used; the text says why."""


class Event(NamedTuple):
    """An element at its beginning, with its attributes, or at its end, with its text and children. The root has
    depth 1."""

    begins: bool
    element: Element
    depth: int
    parent: Element | None

    @property
    def name(self) -> str:
        """The element's name without its namespace."""
        return str(self.element.tag).rpartition("}")[2]

    def drop(self) -> None:
        """Forgets an element that has ended, so that a long file does not fill the memory."""
        self.element.clear()
        if self.parent is not None:
            del self.parent[-1]


def events(file: IO[bytes], limit: int, check: Check = never) -> Iterator[Event]:
    """Beginning and end of every element. Whoever does not need an element any more at its end drops it.

    limit: bytes that are read at most. XmlError.
    """
    count = 0
    open_elements: list[Element] = []
    try:
        for event, element in iterparse(_Bounded(file, limit), events=("start", "end"), forbid_dtd=False):
            count += 1
            if count % STEP == 0:
                check()
            if event == "start":
                parent = open_elements[-1] if open_elements else None
                open_elements.append(element)
                if len(open_elements) > MAX_DEPTH:
                    raise XmlError(f"its elements are nested more than {MAX_DEPTH} deep; that is the limit")
                yield Event(True, element, len(open_elements), parent)
            else:
                depth = len(open_elements)
                open_elements.pop()
                yield Event(False, element, depth, open_elements[-1] if open_elements else None)
    except EntitiesForbidden:
        raise XmlError("it declares entities, which are not expanded here") from None
    except DefusedXmlException:
        raise XmlError("it refers to something outside of it, which is not fetched here") from None
    except ParseError as error:
        raise XmlError(f"it is no XML: {error}") from None
    except (ValueError, LookupError):  # an encoding that is unknown, or not what it says
        raise XmlError("it is no XML: its encoding cannot be read") from None


class _Bounded:
    """Reads up to a limit; XmlError beyond it."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise XmlError(f"it is larger than {self._limit >> 20} MiB; that is the limit")
        return data
