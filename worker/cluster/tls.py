"""The TLS context for an API server: its certificate authority, the client's certificate, and kubectl's leniency."""

import ssl
import tempfile

from worker.cluster.kubeconfig import ClusterConfiguration, ConfigurationError


def tls_context(
    configuration: ClusterConfiguration, *, authority: bytes | None, certificate: bytes | None, key: bytes | None
) -> ssl.SSLContext | None:
    """Make the TLS context for one API server."""
    if not configuration.server.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cadata=_authorities(authority))
        # As lenient as kubectl: clusters' own authorities lack what newer rules ask for, and may be intermediate ones.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if not configuration.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate is not None and key is not None:
            _load_certificate(context, certificate + b"\n" + key)
    except (OSError, ValueError) as error:  # OpenSSL's are OSErrors
        text = f"{configuration.source}: certificates that cannot be used: {error}"
        raise ConfigurationError(text) from error
    return context


def _authorities(data: bytes | None) -> str | None:
    if data is None:
        return None
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ValueError("the certificate authority is no PEM")
    return data.decode("ascii", "replace")


def _load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    def no_password() -> str:
        raise ValueError("the client key is encrypted")  # else OpenSSL would ask for it, and wait

    with tempfile.NamedTemporaryFile() as file:  # OpenSSL reads files only
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name, password=no_password)
