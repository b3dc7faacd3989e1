"""What the server refuses, with the status that HTTP has for it."""

from __future__ import annotations

from mmid.errors import MmidError


class Refused(MmidError):
    """A request that is not served; the message is one clear line.

    Parameters
    ----------
    status : int
        HTTP's number of it.
    message : str
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cancelled(Refused):
    """Work that its user has stopped."""

    def __init__(self, message: str) -> None:
        super().__init__(409, message)
