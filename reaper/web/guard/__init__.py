"""What protects the daemon from its HTTP clients. Sweeps come first, and no client keeps another one waiting.

- Too many connections, or many silent ones: `OpenConnections` closes the idlest when a new one comes (connections).
- A request head or a keep-alive that does not come: the connection is cut after 10 s (connections; uvicorn after 5 s).
- A head of more than 16 KiB, or what is not HTTP: 400 (uvicorn's h11_max_incomplete_event_size; connections).
- A request that a proxy could end elsewhere: 400, and the connection is closed (access).
- A body that does not come, is too long, or was not asked for: 408, 413, or not read at all (middleware).
- A client that does not read its answer: the connection is cut after 20 s (connections).
- Any flood of requests: `AdmissionLimit` bounds their share of time, and equal questions share an answer (admission).
- Many readers of one source: `ReadCache`, outside this package, reads it for all of them, and gives way to sweeps.
- A web page of another site: the Host, Origin and Sec-Fetch-Site checks (access) and the security headers (headers).
- Changes by strangers: bearer tokens, compared in constant time (tokens); no token, no change (access).
- A log that a flood would fill: `RejectionLog` writes one line every ten seconds, a defect is logged once (middleware).
"""

from reaper.web.guard.access import AccessControl, token_required
from reaper.web.guard.middleware import guarded
from reaper.web.guard.tokens import Caller, refuse_exposed

__all__ = ["AccessControl", "Caller", "guarded", "refuse_exposed", "token_required"]
