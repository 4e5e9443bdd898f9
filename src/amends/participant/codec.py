"""The SDK's one choice of its own: requests and replies are JSON. By floor this module is a composition root."""

from amends.codecs.json import JsonCodec
from amends.core.words.codec import Codec


def default_codec() -> Codec:
    """Used by a `Service` that is given none."""
    return JsonCodec()
