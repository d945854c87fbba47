"""Broker URLs: where Celery's workers can be asked for their tasks; checked, and shown without their secrets.

No message repeats any part of a URL except a plain scheme: what cannot be parsed cannot be masked either.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from reaper.common.suggestions import did_you_mean
from reaper.config.database_url import mask_database_url as masked_one

# Those of kombu's transports (`kombu.transport.TRANSPORT_ALIASES`, kombu 5.7) that carry remote control, which is how
# workers are asked; and Redis behind a socket, which kombu knows without listing it.
SCHEMES = frozenset({"amqp", "amqps", "pyamqp", "redis", "rediss", "redis+socket", "sentinel"})
_REDIS = ("redis", "sentinel")
_PLAIN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.IGNORECASE)
_EXAMPLES = "redis://:password@host:6379/0 or amqp://user:password@host:5672/vhost"


def normalise_broker_url(text: str) -> str:
    """The URL, its scheme in small letters; several, joined by `;`, are one broker that fails over.

    Raises ValueError, without a secret in it, for anything else.
    """
    return ";".join(_normalised(part.strip()) for part in text.split(";"))


def _normalised(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"expected a URL such as {_EXAMPLES}")
    if not _PLAIN_SCHEME.fullmatch(scheme):
        raise ValueError(f"the URL's scheme cannot be read{did_you_mean('', SCHEMES)}")
    if scheme.casefold() not in SCHEMES:
        raise ValueError(f"{scheme}:// is no broker whose workers can be asked{did_you_mean(scheme, SCHEMES)}")
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError("the URL holds a blank or a control character; write a blank as %20")
    if not _is_whole(f"{scheme}://{rest}"):
        raise ValueError(
            f"the URL cannot be read; expected {_EXAMPLES}, "
            "with @ : / ? # ; in a user name or password as %40 %3A %2F %3F %23 %3B"
        )
    return f"{scheme.casefold()}://{rest}"


def _is_whole(url: str) -> bool:
    """Whether the URL falls into its parts, none of which swallowed a piece of a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return port != 0 and parts.netloc.count("@") <= 1 and not {"@", "#"} & set(url.replace(parts.netloc, "", 1))


def mask_broker_url(url: str) -> str:
    """A normalised URL without its secrets, for people to read."""
    return ";".join(map(_masked, url.split(";")))


def _masked(url: str) -> str:
    """Whoever writes `redis://something@host` means a password: without one, Redis has no use for a user's name."""
    scheme, _, rest = url.partition("://")
    user, _, password = rest.rpartition("@")[0].partition(":")
    if user and not password and scheme.startswith(_REDIS):
        return masked_one(f"{scheme}://***@{rest.rpartition('@')[2]}")
    return masked_one(url)
