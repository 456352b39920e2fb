"""Reads and writes Content Credentials with a third-party library, c2pa-python. The picture comes on standard input.

credentials.py read TYPE ANCHORS               prints its manifests as JSON, or null if it has none
credentials.py sign TYPE CERTIFICATES KEY      prints the picture with a manifest, as a model provider may deliver it
"""

import io
import json
import sys

from c2pa import Builder, C2paSignerInfo, Context, Reader, Signer

CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    "softwareAgent": {"name": "The provider's model"},
}
MANIFEST = {
    "claim_generator_info": [{"name": "The provider"}],
    "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [CREATED]}}],
}


def read_text(path: str) -> str:
    with open(path) as file:
        return file.read()


def read(content_type: str, anchors: str) -> None:
    pem = read_text(anchors)
    trust = {"trust": {"trust_anchors": pem}} if pem else {}
    context = Context.from_dict({**trust, "verify": {"verify_trust": True}})
    reader = Reader.try_create(content_type, io.BytesIO(sys.stdin.buffer.read()), context=context)
    print(reader.json() if reader else "null")


def sign(content_type: str, certificates: str, key: str) -> None:
    signer = Signer.from_info(C2paSignerInfo("es256", read_text(certificates).encode(), read_text(key).encode(), None))
    context = Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    signed = io.BytesIO()
    Builder.from_json(json.dumps(MANIFEST), context).sign(signer, content_type, io.BytesIO(sys.stdin.buffer.read()), signed)
    sys.stdout.buffer.write(signed.getvalue())


command, *arguments = sys.argv[1:]
{"read": read, "sign": sign}[command](*arguments)
