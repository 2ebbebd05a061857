"""An answer that says no, and why."""


class RefusalError(Exception):
    """What a stranger sent cannot be served.

    Attributes:
        status: of HTTP.
        message: what was expected and what was found.
        retry_after: seconds until it is worth trying again; None where it never is.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
