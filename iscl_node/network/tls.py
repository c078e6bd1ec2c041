"""DICOM over TLS: the BCP 195 profile with mutual authentication (PS3.15 B.12), as a server and as a client."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography import x509

from iscl_node.domain import Tls
from iscl_node.errors import ConfigurationError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""Of TLS 1.2, those with forward secrecy and authenticated encryption (RFC 9325 4.2); TLS 1.3 has no others."""

_Context = TypeVar("_Context", bound=ssl.SSLContext)

_log = structlog.get_logger(__name__)


class ClientContext(ssl.SSLContext):
    """A context that remembers why its handshake failed, which pynetdicom only logs."""

    fault: OSError | None = None


class _ClientSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            if isinstance(self.context, ClientContext):
                self.context.fault = error
            raise


def client_context(tls: Tls) -> ClientContext:
    """The context of one association that we request.

    Raises
    ------
    ConfigurationError
        A file cannot be used; the message says which.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _ClientSocket
    context.check_hostname = tls.verify_name
    return _prepared(context, tls)


def server_context(tls: Tls) -> ssl.SSLContext:
    """The context of a server that asks its clients for a certificate.

    Raises
    ------
    ConfigurationError
        A file cannot be used; the message says which.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _prepared(context, tls)


class ServerTls:
    """The context of a server that runs for years: read again when its files are renewed.

    Parameters
    ----------
    tls : Tls
        Its files.

    Raises
    ------
    ConfigurationError
        A file cannot be used; the message says which.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._state = _state_of(tls)
        self._context = server_context(tls)

    def context(self) -> ssl.SSLContext:
        """The context of the files as they are; the one before if they cannot be used."""
        state = _state_of(self._tls)
        if state != self._state:
            self._state = state
            try:
                self._context = server_context(self._tls)
                _log.info("certificate.renewed", certificate=str(self._tls.certificate))
            except ConfigurationError as error:
                _log.error("certificate.not_renewed", fault=str(error))
        return self._context


def expiry(tls: Tls) -> datetime:
    """When the first certificate of our chain, or the last of the CA's, ends (UTC).

    Raises
    ------
    ConfigurationError
        A file cannot be used; the message says which.
    """
    ours = min(each.not_valid_after_utc for each in _certificates(tls.certificate))
    return min(ours, max(each.not_valid_after_utc for each in _certificates(tls.ca)))


def expiry_timestamp(tls: Tls) -> float:
    """As `expiry`, in seconds since the epoch, for a metric: 0 where a file cannot be used."""
    try:
        return expiry(tls).timestamp()
    except ConfigurationError:
        return 0.0


def days_left(tls: Tls, now: datetime) -> int:
    """Whole days until `expiry`, negative after it; checks the files as a server and as a client would.

    Raises
    ------
    ConfigurationError
        A file cannot be used; the message says which.
    """
    server_context(tls)
    return (expiry(tls) - now.astimezone(UTC)).days


def _prepared(context: _Context, tls: Tls) -> _Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    _load_ours(context, tls)
    try:
        context.load_verify_locations(cafile=tls.ca)
    except OSError as error:
        raise ConfigurationError(f"TLS: ca {tls.ca} cannot be used: {_why(error)}") from error
    return context


def _load_ours(context: ssl.SSLContext, tls: Tls) -> None:
    for name, file in (("certificate", tls.certificate), ("key", tls.key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"TLS: {name} {file} cannot be read: {error.strerror}") from error
    passphrase = _Passphrase(tls.key_password_file)
    try:
        # Without a passphrase OpenSSL would ask for it on a terminal that the node does not have.
        context.load_cert_chain(tls.certificate, tls.key, password=passphrase)
    except (OSError, ValueError) as error:
        pair = f"certificate {tls.certificate} and key {tls.key}"
        hint = f"; the key has a passphrase, which is not that of {passphrase.told}" if passphrase.is_asked else ""
        raise ConfigurationError(f"TLS: {pair} cannot be used together: {_why(error)}{hint}") from error


class _Passphrase:
    """Gives OpenSSL the passphrase of a key, and knows whether it was asked for."""

    def __init__(self, file: Path | None) -> None:
        self.told = "key_password_file (none is set)" if file is None else f"key_password_file {file}"
        self.is_asked = False
        self._text = b"" if file is None else _first_line(file)

    def __call__(self) -> bytes:
        self.is_asked = True
        return self._text


def _first_line(file: Path) -> bytes:
    try:
        return next(iter(file.read_bytes().splitlines()), b"")
    except OSError as error:
        raise ConfigurationError(f"TLS: key_password_file {file} cannot be read: {error.strerror}") from error


def _why(error: Exception) -> str:
    """What OpenSSL or the operating system says, without the place in their sources."""
    reason = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    return str(reason or error).replace("_", " ").lower()


def _certificates(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"TLS: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"TLS: {file} is no PEM file of certificates") from error


def _state_of(tls: Tls) -> list[tuple[float, int]]:
    """Changes when a file does."""
    states = []
    for file in (tls.certificate, tls.key, tls.ca):
        try:
            stat = file.stat()
            states.append((stat.st_mtime, stat.st_ino))
        except OSError:
            states.append((0.0, 0))
    return states
