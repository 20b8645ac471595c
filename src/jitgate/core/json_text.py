"""JSON without white space, written again and again.

The standard library's `JSONEncoder.encode` makes its encoder anew at each call, which takes as long as an event does.
"""

import json
from collections.abc import Callable
from json import encoder


def writer(*, sort_keys: bool = False, ensure_ascii: bool = True) -> Callable[[object], str]:
    """A function that writes what `json.dumps` does with these options: of our own values, which have no cycles.

    Raises `TypeError` for what JSON has no form for, `ValueError` for a number that is none.
    """
    plain = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        check_circular=False,
        allow_nan=False,
        sort_keys=sort_keys,
        separators=(",", ":"),
    )
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the C part of its own library
        return plain.encode
    escape = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    chunks = make(None, plain.default, escape, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(chunks(value, 0))
