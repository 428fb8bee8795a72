"""A certificate authority for one run, with a certificate per domain."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=2)
# A server's certificate serves in both directions: SASL EXTERNAL shows it as a client's (XEP-0178 §3).
PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class Authority:
    """Writes `ca.pem`, and per domain `<domain>.crt`, `<domain>.key`, and `<domain>.pem` with both."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("pibox interop authority")
        certificate = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).add_extension(
            _usage(signs_certificates=True), critical=True
        ).sign(self._key, hashes.SHA256())
        self.path = folder / "ca.pem"
        self.path.write_bytes(_pem(certificate))

    def issue(self, domain: str) -> Path:
        """Returns the path of the certificate, the key lies beside it."""
        return self._write(domain, self._name, None)

    def self_signed(self, domain: str) -> Path:
        """The same, vouched for by nobody."""
        return self._write(domain, _name(domain), ec.generate_private_key(ec.SECP256R1()))

    def _write(self, domain: str, issuer: x509.Name, own_key: ec.EllipticCurvePrivateKey | None) -> Path:
        key = own_key or ec.generate_private_key(ec.SECP256R1())
        certificate = _builder(_name(domain), issuer, key).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        ).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(domain), x509.DNSName("*." + domain)]), critical=False
        ).add_extension(
            PURPOSES, critical=False
        ).add_extension(
            _usage(signs_certificates=False), critical=True
        ).sign(own_key or self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for suffix, content in (".crt", _pem(certificate)), (".key", secret), (".pem", _pem(certificate) + secret):
            path = self._folder / (domain + suffix)
            path.touch(mode=0o600)
            path.write_bytes(content)
        return self._folder / (domain + ".crt")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.utcnow()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )
