"""How arrays would travel in Sedna. Here the job's own transmitter carries them; these only say which."""

from typing import Any, Dict

__all__ = ("AbstractTransmitter", "S3Transmitter", "WSTransmitter")


class AbstractTransmitter:
    """A transmitter: it sends and receives nothing itself, as in Sedna."""

    def __init__(self) -> None:
        self.parameters: Dict[str, Any] = {}

    def recv(self) -> None:
        """Do nothing: arrays travel outside the script."""

    def send(self, data: Any) -> None:
        """Do nothing: arrays travel outside the script."""


class WSTransmitter(AbstractTransmitter):
    """Sedna's websocket; the job's store here."""


class S3Transmitter(AbstractTransmitter):
    """S3. What it is given stays in its attributes and is never shown."""

    def __init__(
        self, s3_endpoint_url: Any, access_key: Any, secret_key: Any, transmitter_url: Any
    ) -> None:
        super().__init__()
        self.s3_endpoint_url = s3_endpoint_url
        self.access_key = access_key
        self.secret_key = secret_key
        self.transmitter_url = transmitter_url
        self.parameters = {
            "s3_endpoint_url": s3_endpoint_url,
            "access_key": access_key,
            "secret_key": secret_key,
            "transmitter_url": transmitter_url,
        }

    def __repr__(self) -> str:
        return "S3Transmitter({!r}, ..., {!r})".format(self.s3_endpoint_url, self.transmitter_url)
