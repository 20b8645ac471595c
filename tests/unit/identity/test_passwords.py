import argon2
import pytest

from jitgate.core.errors import Unsafe
from jitgate.core.ids import Random
from jitgate.core.secret import Secret
from jitgate.identity import passwords
from jitgate.identity.passwords import (
    LENGTH_MAX,
    LENGTH_MIN,
    check_strength,
    generate_password,
    hash_password,
    needs_rehash,
    verify_password,
)


def zeros(count: int) -> bytes:
    return bytes(count)


def counter(count: int) -> bytes:
    return bytes(range(count))


@pytest.fixture(scope="module")
def stored() -> str:
    return hash_password(Secret("correct horse battery é"), zeros)


def test_only_the_password_opens_its_hash(stored):
    assert verify_password(stored, Secret("correct horse battery é"))
    assert verify_password(stored, Secret("correct horse battery e\u0301"))  # another keyboard's é
    assert not verify_password(stored, Secret("correct horse battery e"))
    assert not verify_password(stored, Secret(""))


def test_the_hash_is_the_rfc_9106_low_memory_preset(stored):
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not needs_rehash(stored)


def test_the_salt_is_the_randomness_handed_in(stored):
    assert hash_password(Secret("correct horse battery é"), zeros) == stored
    assert hash_password(Secret("correct horse battery é"), counter) != stored


def test_an_older_hash_is_replaced():
    older = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse battery")
    assert needs_rehash(older)
    assert verify_password(older, Secret("correct horse battery"))


class Counting:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.longest = 0

    def verify(self, stored: str, password: bytes) -> bool:
        self.longest = max(self.longest, len(password))
        self.asked.append(stored)
        return True


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("password", ["right", "\ud800", "x" * (LENGTH_MAX + 1)], ids=["short", "surrogate", "long"])
def test_every_check_is_one_verification_by_todays_parameters(monkeypatch, stored, known, password):
    hasher = Counting()
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    fits = len(password) <= LENGTH_MAX
    assert verify_password(stored if known else None, Secret(password)) is (known and fits)
    assert len(hasher.asked) == 1
    assert hasher.longest <= LENGTH_MAX  # a stranger does not choose how much is hashed
    monkeypatch.undo()
    assert not needs_rehash(hasher.asked[0])


@pytest.mark.parametrize("broken", ["", "plain", "$argon2id$v=19$m=65536,t=3,p=4$bad"])
def test_a_hash_that_cannot_be_read_is_not_a_wrong_password(broken):
    with pytest.raises(Unsafe) as refused:
        verify_password(broken, Secret("x"))
    assert "x" not in refused.value.what.split()


def test_generated_passwords_are_100_random_bits_and_strong():
    made = generate_password(counter).reveal()
    assert made == "01234-56789-abcde-fghjk"
    check_strength(Secret(made), "alice")


def test_every_random_byte_matters():
    def one_at(place: int) -> Random:
        return lambda count: bytes(i == place for i in range(count))

    assert len({generate_password(one_at(place)).reveal() for place in range(20)}) == 20


@pytest.mark.parametrize(
    "weak",
    ["a" * 40, "ababababababab", "short-but-ok"[: LENGTH_MIN - 1], "Alice-in-wonderland", "0123456789" * 26],
)
def test_weak_passwords_are_refused_without_repeating_them(weak):
    with pytest.raises(Unsafe) as refused:
        check_strength(Secret(weak), "alice")
    assert weak not in f"{refused.value.what} {refused.value.hint}"
