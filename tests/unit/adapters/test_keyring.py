"""Keys that lie in no file, while their keeper comes and goes: how often it is asked, and what the desk is told."""

import sys

import pytest
from tests.unit.ca.samples import private

from jitgate.adapters.custody import keyring as module
from jitgate.adapters.custody.keyring import Keyring
from jitgate.adapters.custody.pkcs11 import Token
from jitgate.adapters.custody.port import SigningKey
from jitgate.adapters.custody.sealed import unseal
from jitgate.ca.model import RefusedFile
from jitgate.ca.places import NOWHERE, Pkcs11Place, SealedPlace
from jitgate.core.errors import BadInput, NotFound, Unreachable, Unsafe
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, PublicKey


class Keeper:
    """A keeper of the keys `a` and `b` that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.keys = {name: private(name) for name in ("a", "b")}

    def key(self, name: str) -> SigningKey:
        self.asked += 1
        if self.away:
            raise Unreachable("away")
        if name not in self.keys:
            raise NotFound("no such key")
        return Key(self, self.keys[name])

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        raise NotImplementedError

    def put(self, name: str, key: SoftwareKey) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Key:
    def __init__(self, keeper: Keeper, key: SoftwareKey) -> None:
        self._keeper, self._key, self.public = keeper, key, key.public

    def sign(self, data: bytes) -> bytes:
        if self._keeper.away:
            raise Unreachable("away")
        return self._key.sign(data)


class Desk:
    def __init__(self) -> None:
        self.held: dict[str, SigningKey] = {}

    def hold(self, file: str, key: SigningKey) -> None:
        self.held[file] = key

    def let_go(self, file: str) -> bool:
        return self.held.pop(file, None) is not None


class Scene:
    NAMES = ("agent:a", "agent:b")

    def __init__(self) -> None:
        self.keeper, self.desk, self.now = Keeper(), Desk(), 0.0
        self.refused: dict[str, RefusedFile] = {}
        self.keyring = Keyring(NOWHERE, lambda: self.now)

    def look(self, seconds: int = 1, names: tuple[str, ...] = NAMES) -> None:
        for _ in range(seconds):
            self.keyring.look(names, self.desk, self.refused)
            self.now += 1


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    monkeypatch.setattr(module, "open_custody", lambda _places, _scheme: made.keeper)
    return made


def test_what_is_there_is_held_one_a_look(scene: Scene):
    scene.look()
    assert len(scene.desk.held) == 1
    scene.look()
    assert scene.desk.held.keys() == set(Scene.NAMES)
    assert scene.refused == {}


def test_who_is_away_is_asked_less_and_less_and_not_for_each_key(scene: Scene):
    scene.keeper.away = True
    scene.look(10)
    assert scene.desk.held == {}
    assert {each.why for each in scene.refused.values()} == {"away"}
    assert scene.keeper.asked <= 5
    before = scene.keeper.asked
    scene.look(600)
    assert 5 <= scene.keeper.asked - before <= 20  # once a minute, and what it took to come there


def test_what_fails_in_use_is_let_go_and_comes_back(scene: Scene):
    scene.look(2)
    scene.keeper.away = True
    with pytest.raises(Unreachable):
        scene.desk.held["agent:a"].sign(b"data")
    asked = scene.keeper.asked
    with pytest.raises(Unreachable):
        scene.desk.held["agent:a"].sign(b"data")
    assert scene.keeper.asked == asked  # it is not waited for a second time
    scene.look(3)
    assert scene.desk.held.keys() == {"agent:b"}
    scene.look(30)
    assert scene.desk.held == {}  # seen without being used
    scene.keeper.away = False
    scene.look(130)
    assert scene.desk.held.keys() == set(Scene.NAMES)
    private("a").public.verify(scene.desk.held["agent:a"].sign(b"data"), b"data")
    assert scene.refused == {}


def test_another_key_under_a_known_name_is_held_too(scene: Scene):
    scene.look(2)
    scene.keeper.keys["a"] = private("c")
    scene.look(40)
    assert scene.desk.held["agent:a"].public == private("c").public


def test_what_no_table_names_any_more_is_not_looked_after(scene: Scene):
    scene.look(2)
    asked = scene.keeper.asked
    scene.look(60, names=())
    assert scene.keeper.asked == asked


def test_a_key_that_the_desk_does_not_take_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    def refuse(_file: str, _key: SigningKey) -> None:
        raise Unsafe("two files hold the same key")

    monkeypatch.setattr(scene.desk, "hold", refuse)
    scene.look(2)
    assert {each.why for each in scene.refused.values()} == {"two files hold the same key"}


def test_the_logs_key_is_the_same_again_or_still_lost(scene: Scene):
    key = scene.keyring.take("agent:a")
    scene.keeper.away = True
    with pytest.raises(Unreachable):
        key.sign(b"data")
    scene.keeper.away = False
    for _ in range(3):
        scene.now += 70
        scene.keyring.look_after("agent:a")
    key.public.verify(key.sign(b"data"), b"data")
    key.lost = Unreachable("away")
    scene.keeper.keys["a"] = private("c")
    scene.now += 100
    scene.keyring.look_after("agent:a")
    with pytest.raises(Unreachable):
        key.sign(b"data")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(BadInput) as refused:
        Token(Pkcs11Place("/lib/none.so", "jitgate", "/etc/pin")).key("user_ca")
    assert "[pkcs11]" in refused.value.hint
    with pytest.raises(BadInput) as refused:
        unseal(SealedPlace("/etc/age.key"), b"age-encryption.org/v1\n")
    assert "[age]" in refused.value.hint


@pytest.mark.parametrize("mode", [0o777, 0o664])
def test_a_library_that_others_could_write_is_not_loaded(tmp_path, mode: int):
    """It would become a part of the signer."""
    pytest.importorskip("pkcs11")
    module = tmp_path / "p11.so"
    module.touch()
    module.chmod(mode)
    with pytest.raises(Unsafe, match="others could write"):
        Token(Pkcs11Place(str(module), "jitgate", "/etc/pin")).key("user_ca")
    with pytest.raises(NotFound):
        Token(Pkcs11Place(str(tmp_path / "none.so"), "jitgate", "/etc/pin")).key("user_ca")
    module.chmod(0o644)
    pin = tmp_path / "pin"
    pin.write_text("0451\n")
    pin.chmod(0o600)
    with pytest.raises(Unreachable):  # no library at all
        Token(Pkcs11Place(str(module), "jitgate", str(pin))).key("user_ca")
    pin.chmod(0o644)
    with pytest.raises(Unsafe, match="read by others"):
        Token(Pkcs11Place(str(module), "jitgate", str(pin))).key("user_ca")
