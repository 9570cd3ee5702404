"""The codes of rootstream_store.h, one for each class of errors."""

from __future__ import annotations

from typing import Final

from rootstream_store import errors

__all__ = ["CODES", "INTERNAL"]

INTERNAL: Final = -6
"""RSS_E_INTERNAL: an error of no class of ours."""

CODES: Final[dict[type, int]] = {
    errors.StoreClosed: -4,
    errors.RootStreamError: -20,
    errors.NotFound: -21,
    errors.TooManyRows: -22,
    errors.AlreadyExists: -23,
    errors.InvalidInput: -24,
    errors.Conflict: -25,
    errors.VersionConflict: -26,
    errors.AuthenticationFailed: -27,
    errors.PermissionDenied: -28,
    errors.Unavailable: -29,
    errors.Timeout: -30,
    errors.SettingsError: -31,
    errors.QueryError: -32,
    errors.MigrationError: -33,
    errors.DatabaseError: -34,
}
