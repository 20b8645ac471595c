"""What a mount keeps by name is bounded, and what stands there can be changed when no more goes in."""

from tests.vault_world import ARTICLE, SIGN_ONLY, open_vault
from tests.world import World

from jitgate.flow.ports import Tx
from jitgate.flow.vault.entries import ENTRIES_MAX
from jitgate.identity.vault import Entry


async def test_what_is_full_takes_no_more_names_but_changes(world: World):
    vault = await open_vault(world)

    def fill(tx: Tx) -> None:
        mount = next(mount for mount in tx.vault.mounts() if mount.path == "ssh")
        for place, kind in ((mount.id, "role"), ("", "policy")):
            for number in range(ENTRIES_MAX - len(tx.vault.entries(place, kind))):
                tx.vault.put_entry(Entry(place, kind, f"filler{number}", {}, world.clock()))

    await world.store.write(fill)
    for path, there, body in (
        ("ssh/roles", "user-role", ARTICLE),
        ("sys/policies/acl", "ssh-access", {"policy": SIGN_ONLY}),
    ):
        assert (await vault.refused("PUT", f"{path}/new", body))[0] == 400
        await vault.ok("PUT", f"{path}/{there}", body)
        await vault.ok("DELETE", f"{path}/filler0")
        await vault.ok("PUT", f"{path}/new", body)
