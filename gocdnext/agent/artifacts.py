"""The artifacts of a job: those of other jobs that it asked for, and its own (protocol-agent 3.9).

It says what is packed and what a failure means; how archives travel is the business of parcels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from gocdnext.agent import markers
from gocdnext.agent.calls import CallError, Calls
from gocdnext.agent.engines import TaskLog
from gocdnext.agent.failures import DeliveryError
from gocdnext.agent.found import Selection, clean, is_pattern
from gocdnext.agent.joblog import STDERR
from gocdnext.agent.parcels import Parcel, Parcels
from gocdnext.proto.agent_pb2 import ArtifactDownload, ArtifactRef, ArtifactUploadTicket, JobAssignment

UPLOAD, UPLOAD_ON_FAILURE = "artifact upload", "artifact upload (on failure)"


class ArtifactError(DeliveryError):
    """A required artifact cannot be delivered, or another job's cannot be had."""


class Artifacts:
    """Of one job. `uploaded` are those that lie in the store: the result names them."""

    def __init__(self, assignment: JobAssignment, parcels: Parcels, calls: Calls, log: TaskLog) -> None:
        self.uploaded: list[ArtifactRef] = []
        self._assignment = assignment
        self._parcels = parcels
        self._calls = calls
        self._log = log

    async def download(self) -> None:
        """All that the job asked for, in order. ArtifactError."""
        for wanted in self._assignment.artifact_downloads:
            await self._log.line(markers.download(wanted.path, wanted.from_job))
            try:
                await self._download(wanted)
            except DeliveryError as error:
                raise ArtifactError(f"artifact {wanted.path} (from {wanted.from_job}): {error}") from error

    async def _download(self, wanted: ArtifactDownload) -> None:
        unpacked = await self._parcels.fetch(wanted.get_url, wanted.content_sha256, clean(wanted.dest))
        await tell_skipped(self._log, unpacked.skipped)

    async def upload(self, *, failed: bool) -> None:
        """What the job is to deliver after a success or, as well as that goes, after a failure. ArtifactError when a
        required artifact of a successful job cannot be delivered."""
        assignment = self._assignment
        when = assignment.artifacts_when or "on_success"
        required = distinct(assignment.artifact_paths)
        optional = distinct(assignment.optional_artifact_paths, required)
        if not (required or optional) or when == ("on_success" if failed else "on_failure"):
            return
        label = UPLOAD_ON_FAILURE if failed else UPLOAD
        began = trio.current_time()
        await self._log.line(markers.opened(label))
        try:
            if failed:
                await self._try_to_upload([*required, *optional])
            else:
                await self._upload(await self._select_required(required))
                await self._try_to_upload(optional)
        except DeliveryError as error:
            await self._log.line(markers.failed(label, trio.current_time() - began, str(error)))
            raise ArtifactError(f"artifact upload failed: {error}") from error
        await self._log.line(markers.done(label, trio.current_time() - began))

    async def _select_required(self, paths: Sequence[str]) -> list[tuple[str, Selection]]:
        found = [(path, await self._parcels.select(path)) for path in paths]
        problems = [missing(path) for path, selection in found if not selection.names]
        if problems:
            raise ArtifactError("; ".join(problems))
        return found

    async def _upload(self, selected: Sequence[tuple[str, Selection]]) -> None:
        """All or an error. Packed before tickets are asked for: tickets do not live long, and are given only once."""
        parcels: dict[str, Parcel] = {}
        for path, selection in selected:
            parcels[path] = await self._pack(path, selection)
        for ticket in await self._tickets(list(parcels)):
            try:
                await self._send(parcels[_form(ticket.path, parcels)], ticket)
            except DeliveryError as error:
                raise ArtifactError(f"{ticket.path}: {error}") from error

    async def _try_to_upload(self, paths: Sequence[str]) -> None:
        """As many as can be; the others get a line."""
        parcels: dict[str, Parcel] = {}
        for path in paths:
            try:
                selection = await self._parcels.select(path)
                if selection.names:
                    parcels[path] = await self._pack(path, selection)
                else:
                    await self._log.line(f"artifact {missing(path)}; nothing is uploaded")
            except DeliveryError as error:
                await self._log.line(f"artifact {error}; it is not uploaded", STDERR)
        try:
            tickets = await self._tickets(list(parcels))
        except DeliveryError as error:
            await self._log.line(f"artifacts {', '.join(parcels)} are not uploaded: {error}", STDERR)
            return
        for ticket in tickets:
            try:
                await self._send(parcels[_form(ticket.path, parcels)], ticket)
            except DeliveryError as error:
                await self._log.line(f"artifact {ticket.path} is not uploaded: {error}", STDERR)

    async def _pack(self, path: str, selection: Selection) -> Parcel:
        try:
            parcel = await self._parcels.pack([selection])
        except DeliveryError as error:
            raise ArtifactError(f"{path}: {error}") from error
        await tell_skipped(self._log, parcel.packed.skipped)
        return parcel

    async def _tickets(self, paths: Sequence[str]) -> list[ArtifactUploadTicket]:
        if not paths:
            return []
        assignment = self._assignment
        tickets = await self._calls.artifact_tickets(assignment.run_id, assignment.job_id, paths)
        if sorted(_trimmed(ticket.path) for ticket in tickets) != sorted(map(_trimmed, paths)):
            raise CallError(f"the server's {len(tickets)} upload tickets are not for the {len(paths)} paths asked for")
        return tickets

    async def _send(self, parcel: Parcel, ticket: ArtifactUploadTicket) -> None:
        await self._parcels.send(parcel, ticket.put_url)
        await self._parcels.discard(parcel)
        packed = parcel.packed
        entries = markers.number(packed.entries, "entry", "entries")
        await self._log.line(f"artifact {ticket.path}: {entries}, {markers.size(packed.size)}")
        self.uploaded.append(
            ArtifactRef(
                path=ticket.path, storage_key=ticket.storage_key, size=packed.size, content_sha256=packed.sha256
            )
        )


async def tell_skipped(log: TaskLog, skipped: Sequence[str]) -> None:
    """A line for each entry that was left out of an archive."""
    for text in skipped:
        await log.line(text, STDERR)


def distinct(paths: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """The paths, each once, without regard to trailing slashes; the first spelling is kept (protocol-agent 2.7)."""
    seen = {_trimmed(path) for path in without}
    kept = []
    for path in paths:
        if _trimmed(path) not in seen:
            seen.add(_trimmed(path))
            kept.append(path)
    return kept


def _trimmed(path: str) -> str:
    return path.rstrip("/")


def _form(path: str, parcels: Iterable[str]) -> str:
    """The spelling of a ticket's path among ours."""
    return next(own for own in parcels if _trimmed(own) == _trimmed(path))


def missing(path: str) -> str:
    """What is said of a path that stands for nothing."""
    return f"{path}: no file matches" if is_pattern(path) else f"{path}: there is no such file or directory"
