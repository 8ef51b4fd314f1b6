# The SDK of PyPI verifies the card that the door serves. "ok" is printed at the end.
import asyncio
import base64
import json
import os

import httpx
import jwt
from a2a.client import A2ACardResolver
from a2a.utils._jcs import canonicalize
from a2a.utils.signing import InvalidSignaturesError, NoSignatureError, create_signature_verifier

URL = os.environ["DOOR_URL"]
KEYS = {k["kid"]: jwt.PyJWK(k) for k in json.loads(os.environ["PUBLIC_KEYS"])}
STRANGERS = {k["kid"]: jwt.PyJWK(k) for k in json.loads(os.environ["OTHER_KEYS"])}


def verifier(keys):
    def provide(kid, jku):
        assert jku == "https://keys.example.com/jwks.json", jku
        return keys[kid]

    return create_signature_verifier(provide, ["ES256", "EdDSA"])


def refused(error, verify, card):
    try:
        verify(card)
    except error:
        return
    raise AssertionError(f"{error} was expected of {card}")


async def main():
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, URL).get_agent_card(signature_verifier=verifier(KEYS))
        document = (await http.get(URL + "/.well-known/agent-card.json")).json()
    assert len(card.signatures) == 2 * len(KEYS) == 4 and len(card.security_schemes) == 2, card
    # The first of each key is of what the SDK reads of the card.
    for i, kid in enumerate(KEYS):
        alone = type(card)()
        alone.CopyFrom(card)
        del alone.signatures[:]
        alone.signatures.append(card.signatures[i])
        verifier({kid: KEYS[kid]})(alone)
        refused(InvalidSignaturesError, verifier(STRANGERS), alone)
        alone.skills[1].description += " And more."
        refused(InvalidSignaturesError, verifier(KEYS), alone)
        del alone.signatures[:]
        refused(NoSignatureError, verifier(KEYS), alone)
    # The second is of the document.
    signatures = document.pop("signatures")
    payload = base64.urlsafe_b64encode(canonicalize(document).encode()).decode().rstrip("=")
    for key, signature in zip(KEYS.values(), signatures[len(KEYS) :], strict=True):
        jwt.decode(f"{signature['protected']}.{payload}.{signature['signature']}", key, algorithms=["ES256", "EdDSA"])
    print("ok")


asyncio.run(main())
