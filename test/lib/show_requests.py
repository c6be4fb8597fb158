#!/usr/bin/env python3
"""Reads a receiver's log for the demo: were the right requests made, and were they signed?

Usage: show_requests.py LOG COMMITTED_ID ROLLED_BACK_ID SECRET...
"""

import base64
import hashlib
import hmac
import json
import sys


def is_signed(request, secrets):
    """Standard Webhooks, in a dozen lines that share nothing with the sender."""
    headers = request["headers"]
    signed = f'{headers["webhook-id"]}.{headers["webhook-timestamp"]}.{request["body"]}'.encode()
    given = headers["webhook-signature"].split(" ")
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        if expected in given:
            return True
    return False


def main():
    log, committed_id, rolled_back_id, *secrets = sys.argv[1:]
    with open(log, encoding="utf-8") as lines:
        requests = [json.loads(line) for line in lines]
    committed = [request for request in requests if request["headers"]["webhook-id"] == committed_id]
    rolled_back = [request for request in requests if rolled_back_id in json.dumps(request)]
    signed = [request for request in committed if is_signed(request, secrets)]

    checks = [
        (f"the receiver got {len(committed)} requests for the committed event", len(committed) == 3),
        (f"{len(signed)} of them have a valid signature", bool(signed) and len(signed) == len(committed)),
        (f"{len(rolled_back)} requests for the rolled back event", not rolled_back),
    ]
    for text, holds in checks:
        print(f'{"ok  " if holds else "WRONG"} {text}')
    if committed:
        request = committed[-1]
        print("\nOne request as it came:\n")
        print(f'{request["method"]} {request["target"]} HTTP/1.1')
        for name, value in request["raw_headers"]:
            print(f"{name}: {value}")
        print(f'\n{request["body"]}')
    sys.exit(0 if all(holds for _text, holds in checks) else 1)


if __name__ == "__main__":
    main()
