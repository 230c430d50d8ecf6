"""
Why OpenSSL refused a chain, in our words.

OpenSSL stops at the first fault of a chain and gives it a number. The numbers are its
public interface (X509_STORE_CTX_get_error(3), x509_vfy.h) and have not changed since
1.0; where several mean one thing to an operator they become one rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.identity.certificate import Finding, Rule

_RULES: Final[Mapping[int, Rule]] = {
    2: Rule.UNKNOWN_AUTHORITY,  # unable to get issuer certificate
    4: Rule.SIGNATURE,  # unable to decrypt certificate's signature
    6: Rule.MALFORMED,  # unable to decode issuer public key
    7: Rule.SIGNATURE,  # certificate signature failure
    9: Rule.NOT_YET_VALID,
    10: Rule.EXPIRED,
    13: Rule.MALFORMED,  # format error in notBefore
    14: Rule.MALFORMED,  # format error in notAfter
    18: Rule.SELF_SIGNED,
    19: Rule.UNKNOWN_AUTHORITY,  # self-signed certificate in certificate chain
    20: Rule.UNKNOWN_AUTHORITY,  # unable to get local issuer certificate
    21: Rule.UNKNOWN_AUTHORITY,  # unable to verify the first certificate
    22: Rule.PATH_LENGTH,  # certificate chain too long
    23: Rule.REVOKED,
    24: Rule.NOT_CA,  # invalid CA certificate
    25: Rule.PATH_LENGTH,
    26: Rule.PURPOSE,
    32: Rule.NOT_CA,  # key usage does not include certificate signing
    34: Rule.CRITICAL_EXTENSION,
    47: Rule.NAME_CONSTRAINT,  # permitted subtree violation
    48: Rule.NAME_CONSTRAINT,  # excluded subtree violation
    49: Rule.NAME_CONSTRAINT,  # minimum and maximum not supported
    51: Rule.NAME_CONSTRAINT,  # unsupported name constraint type
    52: Rule.NAME_CONSTRAINT,  # unsupported or invalid name constraint syntax
    53: Rule.NAME_CONSTRAINT,  # unsupported or invalid name syntax
    66: Rule.WEAK_KEY,  # EE certificate key too weak
    67: Rule.WEAK_KEY,  # CA certificate key too weak
    68: Rule.WEAK_DIGEST,  # CA signature digest algorithm too weak
    79: Rule.NOT_CA,  # invalid CA certificate (extensions)
}


def verdict(code: int, message: str) -> Finding:
    """
    The rule behind a verify error.

    Args: code is `ssl.SSLCertVerificationError.verify_code`, message what OpenSSL says
    to it. A number that is not known here is NOT_VERIFIED.
    """
    return Finding(_RULES.get(code, Rule.NOT_VERIFIED), f"{message} (OpenSSL {code})")
