"""The log of one job: numbers lines, masks what the agent itself says, encodes, and puts them into the outbox.

One counter for all streams of a job, from 1 (protocol-agent 3.4). It runs nothing and reads no pipe.
"""

from __future__ import annotations

import struct
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol

from gocdnext.agent.lines import LineSplitter
from gocdnext.agent.masks import Masker
from gocdnext.agent.outbox import Channel, frame
from gocdnext.proto.agent_pb2 import AgentMessage, LogLine

STDOUT = "stdout"
STDERR = "stderr"
SLICE = 64 * 1024
"""Bytes of encoded frames between two looks for room: how far one writer may exceed the outbox's limit, give or
take one line. Also the characters of one LogBatch, which makes it at most 256 KiB, or one line."""
BATCH_LINES = 4096
"""Lines of one LogBatch; servers take more, but not any number of empty ones."""
OWN_LINE = 512 * 1024
"""Characters of a line of the agent's own (a script may be long): at most 2 MiB as a message."""

_pack_head = struct.Struct(">BI").pack


class JobLog:
    """Where everything that happens in a job is written to. Several may write: lines are numbered and put in one go."""

    def __init__(self, run_id: str, job_id: str, secrets: Iterable[str], outbox: Channel, attempt: int = 0) -> None:
        self.mask = Masker(list(secrets))
        self._outbox = outbox
        self._seq = 0
        self._run_id, self._job_id, self._attempt = run_id, job_id, attempt

    @property
    def lines(self) -> int:
        """How many there are so far."""
        return self._seq

    async def line(self, text: str, stream: str = STDOUT) -> None:
        """One line of the agent's own, masked; it may hold newlines (the echo of a script)."""
        await self.write(stream, [self.mask(text.replace("\0", ""))[:OWN_LINE]])

    async def write(self, stream: str, lines: Sequence[str]) -> None:
        """Lines that are masked already. Waits while the server does not keep up."""
        start = 0
        while start < len(lines):
            await self._outbox.room()
            put = self._put_batch if self._outbox.batches else self._put_lines
            start = put(stream, lines, start)

    def sink(self, stream: str) -> LogSink:
        """A consumer of a pipe's bytes."""
        return LogSink(self, stream)

    def _put_batch(self, stream: str, lines: Sequence[str], start: int) -> int:
        """Encodes lines from `start` as one message; returns where the next one begins."""
        some = lines[start : start + BATCH_LINES]
        if sum(map(len, some)) > SLICE:
            some = some[: max(1, bisect_right(list(accumulate(map(len, some))), SLICE))]
        message = AgentMessage()
        batch = message.log_batch
        batch.run_id, batch.job_id, batch.attempt = self._run_id, self._job_id, self._attempt
        batch.first_seq = self._seq + 1
        batch.texts.extend(some)
        batch.runs.add(lines=len(some), at_micros=time.time_ns() // 1000, stream=stream)
        self._seq += len(some)
        self._outbox.put(frame(message))
        return start + len(some)

    def _put_lines(self, stream: str, lines: Sequence[str], start: int) -> int:
        """Encodes a slice of the lines from `start`, one message a line; returns where the next one begins."""
        # One message filled again for every line: a new one each time would double the cost of everything here. But
        # not for the whole job: protobuf keeps every text that was ever set until the message itself goes.
        message = AgentMessage(log=LogLine(run_id=self._run_id, job_id=self._job_id, stream=stream))
        log, serialize = message.log, message.SerializeToString
        log.at.FromNanoseconds(time.time_ns())
        frames: list[bytes] = []
        size, at = 0, start
        for at in range(start, len(lines)):
            self._seq += 1
            log.seq = self._seq
            log.text = lines[at]
            body = serialize()
            frames += (_pack_head(0, len(body)), body)
            size += len(body)
            if size >= SLICE:
                break
        self._outbox.put(b"".join(frames))
        return at + 1


class LineLog(Protocol):
    """Takes lines that are masked already."""

    mask: Masker

    async def write(self, stream: str, lines: Sequence[str]) -> None: ...


class LogSink:
    """Takes the bytes of one pipe and writes them to a log as lines."""

    def __init__(self, log: LineLog, stream: str) -> None:
        self._log = log
        self._stream = stream
        self._splitter = LineSplitter(log.mask)

    async def feed(self, chunk: bytes) -> None:
        await self._log.write(self._stream, self._splitter.feed(chunk))

    async def finish(self) -> None:
        await self._log.write(self._stream, self._splitter.finish())
