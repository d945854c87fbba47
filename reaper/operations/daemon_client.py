"""HTTP client for what asks or steers a running daemon. Connects directly: proxy variables are ignored."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from reaper.common.http_host import reachable_host
from reaper.config import Settings
from reaper.errors import ConfigError, DaemonUnreachable, ReaperError

_TIMEOUT_SECONDS = 30.0
_MOST_BYTES = 8 << 20
"""Of an answer: a daemon of thousands of sources needs less."""
_HOW_TO_AUTHENTICATE = (
    "name its file with --token-file PATH, REAPER_HTTP_TOKEN_FILE, or http_token_file in the configuration "
    "(scripts/manage.sh start keeps it in .data/http-token)"
)
SCHEMES: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """Requests to one daemon. Changes need the token; the daemon serves requests with a token ahead of others."""

    url: SplitResult
    token: SecretStr | None = None
    timeout_seconds: float = _TIMEOUT_SECONDS

    @property
    def address(self) -> str:
        return f"{self.url.scheme}://{self.url.netloc}"

    def supervisor_state(self) -> dict[str, Any]:
        """The state of the supervisor.

        Raises:
            DaemonUnreachable: Nothing answers at the address.
            ReaperError: The daemon refused, with its message.
        """
        return self._request("GET", "/api/supervisor/state")

    def post_command(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Send `halt` or `restart`. Returns the state afterwards; raises as `supervisor_state` does."""
        return self._request("POST", f"/api/supervisor/{name}{f'?{urlencode(query)}' if query else ''}")

    def report_ended(self, document: Mapping[str, Any]) -> None:
        """Report jobs that were ended beside the daemon. Raises as `supervisor_state` does."""
        self._request("POST", "/api/ended", document, _ReceivedCount)

    def _request(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        answer: type[_Received] | None = None,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {}
        if document is not None:
            headers["Content-Type"] = "application/json"
        body = None if document is None else json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        address = self.address
        connection = SCHEMES[self.url.scheme](self.url.hostname or "", self.url.port, timeout=self.timeout_seconds)
        try:
            connection.request(method, self.url.path.rstrip("/") + path, body, headers)
            with connection.getresponse() as response:
                # A byte more than allowed: it shows that the body is too long.
                status, received = response.status, response.read(_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DaemonUnreachable(f"no daemon answers at {address}: {reason}") from None
        finally:
            connection.close()
        if status == http.client.UNAUTHORIZED and self.token is None:
            raise ReaperError(f"the daemon at {address} needs a token for this: {_HOW_TO_AUTHENTICATE}")
        return _parse_response(address, status, received, answer or _ReceivedState)


class _Received(BaseModel):
    """What an answer has at least; a newer daemon may say more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _ReceivedHalt(_Received):
    by: str
    reason: str | None
    persistent: bool


class _ReceivedSource(_Received):
    name: str
    profile: str
    problems: list[str]
    sweeping: bool
    outcome: str | None
    succeeded_seconds_ago: float | None
    next_seconds: float | None


class _ReceivedState(_Received):
    state: str
    halted: _ReceivedHalt | None
    sources: list[_ReceivedSource]


class _ReceivedCount(_Received):
    counted: int


class _ReceivedRefusal(_Received):
    detail: str


def _parse_response(address: str, status: int, body: bytes, answer: type[_Received]) -> dict[str, Any]:
    """Raises ReaperError with the daemon's refusal, or for a server that is not a reaper."""
    stranger = ReaperError(f"the server at {address} is not a reaper of this version (status {status})")
    # Every path that is asked for exists on a reaper.
    if len(body) > _MOST_BYTES or status == http.client.NOT_FOUND:
        raise stranger
    try:
        document = json.loads(body)
        if status >= http.client.BAD_REQUEST:
            raise ReaperError(_ReceivedRefusal.model_validate(document).detail)
        answer.model_validate(document)
    except (ValueError, RecursionError):  # no JSON, or not that of a reaper
        raise stranger from None
    if status != http.client.OK:
        raise stranger
    return dict(document)


def configured_url(settings: Settings) -> SplitResult:
    """The address of the configured daemon. Raises ConfigError when its HTTP port is switched off."""
    if settings.http_port == 0:
        raise ConfigError([f"{settings.origins.get('http_port', 'default')}: the daemon's HTTP port is switched off"])
    host = reachable_host(settings.http_host)
    return urlsplit(f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}")
