"""URLs of databases and brokers as people may read them: only what is known to be harmless is shown, the rest is `***`.

A list of what is secret would be wrong as soon as a client library learns a new parameter. Names are compared as the
library reads them, after percent-decoding; what is shown is the text as it was written.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

MASK = "***"

_URL = re.compile(
    r"""
    (?P<scheme>[a-z][a-z0-9+.-]{0,30}) ://
    (?: (?P<user>[^:/?@]*) (?P<password>:[^@]*)? @ )?
    (?P<host> \[[^/?@\]]+\] | [^/:?@\[\]]* )
    (?P<port> :[^/?@]* )?
    (?: /(?P<path>[^?@]*) )?
    (?: \?(?P<query>[^@]*) )?
    """,
    re.VERBOSE | re.IGNORECASE,
)

_HARMLESS_OF_LIBPQ = """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
    gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
    load_balance_hosts max_protocol_version min_protocol_version passfile port require_auth requirepeer service
    ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey
    sslmode sslnegotiation sslrootcert sslsni target_session_attrs tcp_user_timeout user
"""
_HARMLESS_OF_PYMYSQL = "ssl_ca ssl_capath ssl_cert ssl_check_hostname ssl_cipher ssl_key unix_socket"
_HARMLESS_OF_KOMBU = """
    connection_timeout db fanout_prefix fanout_patterns global_keyprefix health_check_interval heartbeat login_method
    master_name max_connections protocol retry_on_timeout sep socket_connect_timeout socket_keepalive socket_timeout
    ssl_ca_certs ssl_cert_reqs ssl_certfile ssl_keyfile username virtual_host visibility_timeout
"""
_HARMLESS = frozenset(f"{_HARMLESS_OF_LIBPQ} {_HARMLESS_OF_PYMYSQL} {_HARMLESS_OF_KOMBU}".split())

_OPTIONS = "options"
_SETTINGS = """
    application_name client_encoding client_min_messages datestyle idle_in_transaction_session_timeout intervalstyle
    jit lock_timeout role search_path session_authorization statement_timeout timezone transaction_timeout work_mem
"""
_HARMLESS_SETTINGS = frozenset(_SETTINGS.split())
"""Settings of a PostgreSQL session whose value may be shown; an extension's own may hold anything."""

_SETTING = re.compile(r"(?:-c\s*|--)(?P<name>[^\s=]+)=(?P<value>(?:\\.|[^\s\\])*)")
_NESTED = re.compile(r"[=]|://")
"""A name of a database with one of these is a connection string of its own to libpq, and may hold a password."""


def mask_url(url: str) -> str:
    """The URL without what might be a secret in it."""
    parts = _URL.fullmatch(url)
    if parts is None:
        scheme = re.match(r"[a-z][a-z0-9+.-]{0,30}(?=://)", url, re.IGNORECASE)
        return f"{scheme[0]}://{MASK}" if scheme else MASK
    user = "" if parts["user"] is None else _unless(r"[=:]", parts["user"])
    password = "" if parts["password"] is None else f":{MASK}"
    at = "" if parts["user"] is None else "@"
    path = "" if parts["path"] is None else f"/{_unless(_NESTED, parts['path'])}"
    query = "" if parts["query"] is None else f"?{'&'.join(map(_mask_parameter, parts['query'].split('&')))}"
    address = f"{_unless(r'[=@]', parts['host'])}{parts['port'] or ''}"
    return f"{parts['scheme']}://{user}{password}{at}{address}{path}{query}"


def _unless(suspicious: str | re.Pattern[str], text: str) -> str:
    """The text, unless it has something else in it than it should."""
    return MASK if re.search(suspicious, unquote_plus(text)) else text


def _mask_parameter(parameter: str) -> str:
    name, separator, value = parameter.partition("=")
    decoded = unquote_plus(name)
    if not separator or not re.fullmatch(r"[A-Za-z_]{1,40}", decoded):
        return MASK if parameter else ""
    if decoded == _OPTIONS and _are_harmless(unquote_plus(value)):
        return parameter
    if decoded not in _HARMLESS or (decoded == "dbname" and _NESTED.search(unquote_plus(value))):
        return f"{name}={MASK}"
    return parameter


def _are_harmless(options: str) -> bool:
    """Whether all options of a session are settings that may be shown."""
    rest = _SETTING.sub(lambda setting: "" if _is_harmless(setting["name"]) else setting[0], options)
    return not rest.strip()


def _is_harmless(setting: str) -> bool:
    return setting.replace("-", "_").casefold() in _HARMLESS_SETTINGS
