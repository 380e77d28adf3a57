"""An HTTP server: the settings that all sections with an endpoint share.

In: plain mappings. Out: `Server`, whose settings `data.http_requests` reads. None of them changes the answers, so
none is part of a stage's identity.
"""

import re
from urllib.parse import urlsplit

from pydantic import field_validator

from scaling.config.section import Count, Positive, Section, Text


class Server(Section):
    """The endpoint, its key, and the limits of requests; the sections set the defaults."""

    endpoint: str
    api_key_env: Text | None  # variable that holds the key; null: none is sent
    max_concurrency: Count  # requests under way
    requests_per_minute: Positive | None = None  # tries included
    timeout_seconds: Positive  # of one try, to the last byte of its answer
    max_tries: Count  # of one request, while its errors pass

    @field_validator("endpoint")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        if any(mark in value for mark in "@?#"):  # it may be a key: neither shown nor parsed, which may show it
            raise ValueError(
                "has a user name, a password or a query in it, which logs would show; keys come from the environment,"
                " see api_key_env."
            )
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"is {value!r}; expected a URL such as http://localhost:8000/v1.")
        port = parts.netloc.rpartition("]")[2].partition(":")[2]  # not shown: it may be a password
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("has an invalid port; expected a number from 1 to 65535 after the colon, or no colon.")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", value):  # not shown: this may be the key
            raise ValueError(
                "is not the name of an environment variable (capitals, digits and _); name the variable, never the key"
                " itself."
            )
        return value
