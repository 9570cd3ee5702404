from __future__ import annotations

import hashlib

import pytest

from rootstream_store.cache import keys
from rootstream_store.errors import InvalidInput

DIGEST = hashlib.sha256(b"token").digest()


def test_keys_and_lifetimes_are_those_of_the_design() -> None:
    assert keys.session(DIGEST) == "session:" + DIGEST.hex()
    assert keys.live(7) == "stream:7:live"
    assert keys.viewers(2**40) == "stream:1099511627776:viewers"
    assert keys.events(7) == "stream:7:events"
    assert (keys.SESSION_TTL, keys.LIVE_TTL, keys.VIEWERS_TTL) == (86400, 3600, 300)


def test_bytes_and_text_of_one_digest_are_one_key() -> None:
    assert keys.session(DIGEST) == keys.session(DIGEST.hex()) == keys.session(DIGEST.hex().upper())


@pytest.mark.parametrize(
    "token", ["", "a-login-token-of-43-characters-0123456789abc", "g" * 64, b"short", "a" * 65]
)
def test_a_token_itself_never_becomes_a_key_nor_part_of_the_error(token: bytes | str) -> None:
    with pytest.raises(InvalidInput, match="token_hash") as caught:
        keys.session(token)
    text = token if isinstance(token, str) else token.decode()
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("stream_id", [2**63, -(2**63) - 1, True, "7", 1.0, None])
@pytest.mark.parametrize("build", [keys.live, keys.viewers, keys.events])
def test_only_what_a_bigint_holds_is_a_stream(build: object, stream_id: object) -> None:
    assert callable(build)
    with pytest.raises(InvalidInput, match="stream_id"):
        build(stream_id)
