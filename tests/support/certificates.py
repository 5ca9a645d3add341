"""An authority of its own, and what it certifies, for servers that speak TLS."""

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=1)


class Certified(NamedTuple):
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Certifies servers (for one name or address) and clients."""

    def __init__(self, name: str = "an authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = _pem(builder.sign(self._key, hashes.SHA256()))

    def server(self, valid_for: str) -> Certified:
        """A server's, valid for this name or address only."""
        try:
            name: x509.GeneralName = x509.IPAddress(ip_address(valid_for))
        except ValueError:
            name = x509.DNSName(valid_for)
        return self._issue(valid_for, x509.SubjectAlternativeName([name]), ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, user: str) -> Certified:
        return self._issue(user, None, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server_context(self, valid_for: str = "127.0.0.1", *, wants_client: bool = False) -> ssl.SSLContext:
        """What a server listens with; ``wants_client``: it takes certified clients only."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certified = self.server(valid_for)
        with tempfile.NamedTemporaryFile() as file:
            file.write(certified.certificate + certified.key)
            file.flush()
            context.load_cert_chain(file.name)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.pem.decode())
        return context

    def _issue(self, name: str, names: x509.SubjectAlternativeName | None, usage: x509.ObjectIdentifier) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        plain = serialization.NoEncryption()
        encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return Certified(_pem(builder.sign(self._key, hashes.SHA256())), encoded)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFE)
            .not_valid_after(now + LIFE)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
