"""People as the command line and the API manage them."""

from __future__ import annotations

import pytest

from app.core.errors import ConflictError, InvalidError, NotFoundError
from app.desk.auth import Principal, SessionService, TokenService
from app.desk.groups import DEFAULT_GROUPS
from app.desk.login_limits import LoginLimits
from app.desk.passwords import MAX_PASSWORD_BYTES, Passwords
from app.desk.people import User, UserService, group_ids
from app.desk.permissions import PERMISSIONS, Permission, Role
from tests.desk_world import CHEAP, DeskWorld

PASSWORD = "correct horse battery"


def service(world: DeskWorld) -> UserService:
    return UserService(world.database, clock=world.clock, ids=world.ids, passwords=world.passwords)


def test_each_role_may_do_all_that_the_one_below_may() -> None:
    assert (
        PERMISSIONS[Role.AGENT]
        < PERMISSIONS[Role.SUPERVISOR]
        < PERMISSIONS[Role.ADMIN]
        == frozenset(Permission)
    )


@pytest.mark.parametrize(
    ("role", "chosen", "served"),
    [
        (Role.AGENT, (), {"presale", "aftersale", "vip"}),
        (Role.AGENT, ("vip",), {"vip"}),
        (Role.AGENT, ("supervisor",), {"supervisor"}),
        (Role.SUPERVISOR, (), {"supervisor"}),
        (Role.ADMIN, ("vip",), {"supervisor", "vip"}),
    ],
)
async def test_who_serves_which_groups(
    lite: DeskWorld, role: Role, chosen: tuple[str, ...], served: set[str]
) -> None:
    user = User(id=1, name="x", display_name="x", role=role, groups=chosen)
    assert await lite.database.read(lambda connection: group_ids(connection, user)) == sorted(served)
    assert {group for group in DEFAULT_GROUPS if user.serves(group)} == served


async def test_people_are_added_listed_changed_and_disabled(world: DeskWorld) -> None:
    users = service(world)
    added = await users.add("lin", role="agent", password=PASSWORD, groups=["vip", "vip"], max_load=3)
    await users.add("he", role=Role.SUPERVISOR, password=PASSWORD, shops=["s1"])

    assert [(user.name, user.groups, user.max_load) for user in await users.list()] == [
        ("he", (), 8),
        ("lin", ("vip",), 3),
    ]
    assert (await users.change(added.id, role="supervisor", groups=[])).role is Role.SUPERVISOR
    assert (await users.disable("lin")).is_disabled
    assert not (await users.disable("lin", disabled=False)).is_disabled


async def test_what_cannot_be_added_or_found_says_why(lite: DeskWorld) -> None:
    users = service(lite)
    await users.add("lin", role="agent", password=PASSWORD)
    with pytest.raises(ConflictError):
        await users.add("lin", role="agent", password=PASSWORD)
    for wrong in (
        {"role": "king"}, {"groups": ["nope"]}, {"shops": ["nope"]}, {"max_load": 0}, {"password": "short"},
        {"password": "长" * MAX_PASSWORD_BYTES},
    ):  # fmt: skip
        with pytest.raises(InvalidError) as refused:
            await users.add("he", **{"role": "agent", "password": PASSWORD, **wrong})
        assert refused.value.errors[0].fix
    for name in ("", " lin", "a\nb", "x" * 65):
        with pytest.raises(InvalidError):
            await users.add(name, role="agent", password=PASSWORD)
    for missing in (
        users.passwd("nobody", PASSWORD),
        users.disable("nobody"),
        users.find(99),
        users.change(99, max_load=1),
    ):
        with pytest.raises(NotFoundError):
            await missing


async def test_signing_out_tells_whoever_keeps_sockets_of_the_session(lite: DeskWorld) -> None:
    await service(lite).add("lin", role="agent", password=PASSWORD)
    sessions = SessionService(
        lite.database,
        clock=lite.clock,
        ids=lite.ids,
        passwords=lite.passwords,
        limits=LoginLimits(lite.database, now_of=lite.now_of),
    )
    ended: list[str] = []
    sessions.on_revoked(ended.append)
    principal: Principal = await sessions.resolve(
        (await sessions.sign_in("lin", PASSWORD, address="a")).token
    )
    assert principal.may(Permission.WORK)
    assert not principal.may(Permission.SUPERVISE)

    await sessions.sign_out(principal)
    assert ended == [principal.session_hash]


async def test_a_scripts_token_has_a_role_and_no_person(lite: DeskWorld) -> None:
    sessions = SessionService(
        lite.database,
        clock=lite.clock,
        ids=lite.ids,
        passwords=lite.passwords,
        limits=LoginLimits(lite.database, now_of=lite.now_of),
    )
    token = await TokenService(lite.database, clock=lite.clock, ids=lite.ids).create(
        "nightly", role="supervisor"
    )
    principal = await sessions.resolve(token)
    assert (principal.name, principal.user, principal.role) == ("nightly", None, Role.SUPERVISOR)
    assert principal.scope().sees_shop("anything")


async def test_a_password_is_never_stored_and_another_hash_matches_nothing() -> None:
    passwords = Passwords(CHEAP)
    hashed = await passwords.hash(PASSWORD)
    assert hashed.startswith("$argon2id$")
    assert PASSWORD not in hashed
    assert await passwords.verify(hashed, PASSWORD)
    assert not await passwords.verify(hashed, PASSWORD + "x")
    assert not await passwords.verify(None, PASSWORD)
    assert not await passwords.verify("garbage", PASSWORD)
