"""The texts of ISO 8601 that are read as moments, as regular expressions that both databases understand alike.

`2026-07-01T12:00:00Z`, `2026-07-01 12:00:00.123456+02:00`, `2026-07-01T12:00`: a date and a time of day with `T` or a
blank between them, seconds with or without a fraction, and perhaps an offset from UTC.
"""

_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?"
_OFFSET = "([Zz]|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?"

ISO_MOMENT = f"^{_YEAR}-{_DAY}[Tt ]{_TIME}{_OFFSET}$"
"""Every part is within its range, except the day of a short month."""

ISO_NONE = "^ *$|^0000"
"""Texts that mean "none": nothing but blanks, and the year 0."""

ISO_SECONDS = "^.{16}:([0-9]{2}(?:[.][0-9]{1,6})?)"
ISO_OFFSET_HOURS = "^.{16}.*([+-][0-9]{2}):?(?:[0-9]{2})?$"
ISO_OFFSET_MINUTES = "^.{16}.*[+-][0-9]{2}:?([0-9]{2})$"
"""Of a text that is a moment, the part in the brackets."""

ISO_TIME_OF_DAY, ISO_OFFSET = "^[0-9:.]+", "[+-][0-9]{2}:?([0-9]{2})?$"
"""Of what follows the date, and of what follows the minutes."""
