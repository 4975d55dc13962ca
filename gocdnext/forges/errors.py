"""What a provider said no to, in words for people, and whether asking again can help."""

from __future__ import annotations

from gocdnext.errors import UpstreamError
from gocdnext.outbound.client import Answer
from gocdnext.outbound.errors import BadAnswerError

MAX_SAID = 200
_HINTS = {
    401: "the credential was refused: set it anew",
    403: "the credential may not do this: it needs more rights",
    404: "there is no such repository, or the credential may not see it",
}


class ProviderError(UpstreamError):
    """A provider did not do what it was asked. `again`: whether a later try can help; `after`: seconds it asks to wait."""

    def __init__(self, message: str, *, status: int = 0, again: bool = False, after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.again = again
        self.after = after


def refused(answer: Answer, what: str) -> ProviderError:
    """The error that an answer other than 2xx is; `what` was asked for. Holds nothing that was sent."""
    limited = answer.status == 429 or (answer.status == 403 and answer.retry_after is not None)
    again = limited or answer.status >= 500 or answer.status in (408, 409, 423, 425)
    words = "it asks to be called less often" if limited else _HINTS.get(answer.status) or _said(answer)
    text = f"{what}: {answer.host} answered {answer.status}" + (f": {words}" if words else "")
    return ProviderError(text, status=answer.status, again=again, after=answer.retry_after)


def checked(answer: Answer, what: str) -> Answer:
    """The answer, when it is a good one. Raises ProviderError."""
    if not answer.ok:
        raise refused(answer, what)
    return answer


def number(document: dict[str, object], name: str) -> int:
    """An id that a provider gives. Raises BadAnswerError for what is none that can be kept."""
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise BadAnswerError(f"the provider answered without `{name}`")
    return value


def _said(answer: Answer) -> str:
    """The provider's own words, on one line."""
    try:
        document = answer.mapping()
    except UpstreamError:
        return ""
    said = document.get("message") or document.get("error")
    if isinstance(said, dict):
        said = said.get("message") or said
    text = said if isinstance(said, str) else ""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_SAID]
