"""Passwords of the page's users: only their Argon2id hashes are in the settings."""

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER: Final = PasswordHasher()
_NOBODYS: Final = _HASHER.hash("the password of nobody")
"""Compared for names without a user, so that these take as long as others."""


def password_hash(password: str) -> str:
    """The Argon2id hash of a password, for ``[[http.users]]``."""
    return _HASHER.hash(password)


def is_password(known_hash: str | None, password: str) -> bool:
    """Whether this is the password; never without a hash."""
    try:
        return _HASHER.verify(known_hash or _NOBODYS, password) and known_hash is not None
    except (VerificationError, InvalidHashError):
        return False
