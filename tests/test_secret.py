"""Secrets show themselves only when asked."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_store.errors import InvalidInput
from rootstream_store.secret import SECRET_NAMES, Secret


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8))
def test_a_secret_shows_itself_only_when_asked(text: str) -> None:
    secret = Secret(text)
    assert secret.reveal() == text
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {secret:}"
    assert shown == "Secret('***') Secret('***') Secret('***') [Secret('***')] Secret('***')"


def test_equality_and_hash() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("\ud800") != Secret("a"), "also of text that has no UTF-8"


@pytest.mark.parametrize("text", [None, b"hunter2", 7, ["hunter2"]])
def test_a_secret_is_text(text: object) -> None:
    with pytest.raises(InvalidInput, match="must be a string") as caught:
        Secret(text)  # type: ignore[arg-type]  # what is tested
    assert "hunter2" not in str(caught.value)
    assert caught.value.value is None


def test_generate() -> None:
    made = {Secret.generate().reveal() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(text) for text in made} == {43}


def test_a_secret_is_never_written_as_json_by_the_way() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("x"))


def test_copies() -> None:
    assert pickle.loads(pickle.dumps(Secret("x"))) == Secret("x")
    assert copy.deepcopy(Secret("x")) == Secret("x")


def test_no_attribute_can_be_added() -> None:
    with pytest.raises(AttributeError):
        Secret("x").note = "y"  # type: ignore[attr-defined]  # what is tested


def test_columns_that_are_secret() -> None:
    assert {"password_hash", "stream_key", "token_hash"} <= SECRET_NAMES
