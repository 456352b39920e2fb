"""A time-stamping authority (RFC 3161) for tests: it signs the time of each request. It prints its URL, and exits when
its standard input closes. `openssl ts -verify` accepts its answers.
"""

import sys
import threading
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import randbits

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate() -> asn1.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Time"), x509.NameAttribute(NameOID.COMMON_NAME, "time")])
    now = datetime.now(timezone.utc)
    no = dict.fromkeys(
        ["key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, content_commitment=True, **no), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key()), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    return asn1.Certificate.load(built.public_bytes(serialization.Encoding.DER))


CERTIFICATE = certificate()
SHA256 = algos.DigestAlgorithm({"algorithm": "sha256"})


def attribute(kind: str, value) -> cms.CMSAttribute:
    return cms.CMSAttribute({"type": kind, "values": [value]})


def stamp(question: tsp.TimeStampReq) -> bytes:
    info = {
        "version": "v1",
        "policy": "1.3.6.1.4.1.99999.1",
        "message_imprint": question["message_imprint"],
        "serial_number": randbits(63),
        "gen_time": datetime.now(timezone.utc).replace(microsecond=0),
    }
    if question["nonce"].native is not None:
        info["nonce"] = question["nonce"]
    content = tsp.TSTInfo(info).dump()
    signed = cms.CMSAttributes(
        [
            attribute("content_type", "tst_info"),
            attribute("message_digest", sha256(content).digest()),
            attribute("signing_certificate_v2", tsp.SigningCertificateV2({"certs": [{"cert_hash": CERTIFICATE.sha256}]})),
        ]
    )
    signer = {
        "version": "v1",
        "sid": cms.SignerIdentifier({"issuer_and_serial_number": {"issuer": CERTIFICATE.issuer, "serial_number": CERTIFICATE.serial_number}}),
        "digest_algorithm": SHA256,
        "signed_attrs": signed,
        "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        "signature": KEY.sign(signed.untag().dump(force=True), ec.ECDSA(hashes.SHA256())),
    }
    token = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [SHA256],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
            "certificates": [CERTIFICATE],
            "signer_infos": [signer],
        }
    )
    return tsp.TimeStampResp(
        {"status": {"status": "granted"}, "time_stamp_token": {"content_type": "signed_data", "content": token}}
    ).dump()


class Authority(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = stamp(tsp.TimeStampReq.load(body))
        self.send_response(200)
        self.send_header("content-type", "application/timestamp-reply")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Authority)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
