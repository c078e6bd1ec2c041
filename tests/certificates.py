"""Certificates for the tests, made at run time: an authority, and what it issues."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from iscl_node.domain import Tls

LOCALHOST = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])


class Authority:
    """A CA in a folder; what it issues is beside it."""

    def __init__(self, folder: Path, name: str = "hospital") -> None:
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = _new_key()
        self.file = folder / f"{name}-ca.pem"
        certificate = self._signed(self._name, self._key, days=3650, is_ca=True, names=None)
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        days: float = 365,
        names: x509.SubjectAlternativeName | None = LOCALHOST,
        passphrase: bytes = b"",
    ) -> Tls:
        """Write certificate and key of ``name``, valid until ``days`` from now."""
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key, days, is_ca=False, names=names)
        tls = Tls(self.folder / f"{name}.pem", self.folder / f"{name}.key", self.file)
        tls.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        sealing = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        tls.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing))
        return tls

    def _signed(
        self,
        subject: x509.Name,
        key: rsa.RSAPrivateKey,
        days: float,
        is_ca: bool,
        names: x509.SubjectAlternativeName | None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1000))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
