"""Give Milvus the users of Shoplens: root's password, and `shoplens` with the rights it needs.

Does nothing where all is as it should be, so it may run after every upgrade. A password that changed in the Secret is
changed in Milvus; root's needs the one before, for nobody else may change it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pymilvus import MilvusClient, MilvusException

FIRST_ROOT_PASSWORD = "Milvus"  # noqa: S105 - what every new Milvus accepts
USER = "shoplens"
ROLE = "shoplens"

# What Shoplens calls, and no more: (object type, privilege). `*` stands for collections that are yet to come.
RIGHTS = [
    ("Global", "CreateCollection"),
    ("Global", "DropCollection"),
    ("Global", "DescribeCollection"),
    ("Global", "ShowCollections"),
    ("Global", "CreateAlias"),
    ("Global", "DropAlias"),
    ("Global", "DescribeAlias"),
    ("Global", "ListAliases"),
    ("Collection", "AlterCollection"),
    ("Collection", "CreateIndex"),
    ("Collection", "DropIndex"),
    ("Collection", "IndexDetail"),
    ("Collection", "Load"),
    ("Collection", "Release"),
    ("Collection", "GetLoadState"),
    ("Collection", "GetLoadingProgress"),
    ("Collection", "Insert"),
    ("Collection", "Upsert"),
    ("Collection", "Delete"),
    ("Collection", "Query"),
    ("Collection", "Search"),
    ("Collection", "Flush"),
    ("Collection", "GetFlushState"),
    ("Collection", "GetStatistics"),
    ("Collection", "ShowPartitions"),
    ("Collection", "HasPartition"),
]


def main() -> int:
    """Exit with 0 when the users are as they should be, else with 1 and the reason."""
    arguments = _arguments()
    deadline = time.monotonic() + arguments.deadline_s
    try:
        root = _sign_in_as_root(arguments, deadline)
        _grant(root)
        _set_user(root, arguments, _secret(arguments.secret, "password"))
    except (MilvusException, OSError, ValueError) as error:
        print(f"users: {error}", file=sys.stderr)
        return 1
    return 0


def _sign_in_as_root(arguments: argparse.Namespace, deadline: float) -> MilvusClient:
    wanted = _secret(arguments.secret, "root-password")
    if wanted == FIRST_ROOT_PASSWORD:
        raise ValueError("root's password in the Secret is the one that everybody knows; choose another")
    client = _wait(arguments, "root", wanted, deadline)
    if client:
        print("root: password is current")
        return client
    previous = arguments.secret / "previous-root-password"
    known = [previous.read_text().strip()] if previous.exists() else []
    for password in [*known, FIRST_ROOT_PASSWORD]:
        client = _connect(arguments, "root", password)
        if client:
            client.update_password(user_name="root", old_password=password, new_password=wanted)
            client.close()
            print("root: password changed")
            return _must(_wait(arguments, "root", wanted, deadline), "root's new password is not accepted")
    raise ValueError(
        "root's password in Milvus is neither the Secret's, nor its previous one, nor that of a new server; "
        "put the password that Milvus knows into the Secret under previous-root-password"
    )


def _set_user(root: MilvusClient, arguments: argparse.Namespace, password: str) -> None:
    if USER in root.list_users():
        client = _connect(arguments, USER, password)
        if client:
            client.close()
            _give_role(root)
            print(f"{USER}: password is current")
            return
        # Milvus lets root change another's password only where a setting says so, and drop it always.
        root.drop_user(USER)
    root.create_user(user_name=USER, password=password)
    _give_role(root)
    print(f"{USER}: password set")


def _give_role(root: MilvusClient) -> None:
    if ROLE not in root.describe_user(USER).get("roles", ()):
        root.grant_role(user_name=USER, role_name=ROLE)


def _grant(root: MilvusClient) -> None:
    """Make the role hold RIGHTS and nothing else, as far as this server knows them."""
    if ROLE not in root.list_roles():
        root.create_role(ROLE)
    held = {(right["object_type"], right["privilege"]) for right in root.describe_role(ROLE)["privileges"]}
    for object_type, privilege in sorted(held - set(RIGHTS)):
        root.revoke_privilege(ROLE, object_type, privilege, "*")
        print(f"{ROLE}: {privilege} taken")
    for object_type, privilege in RIGHTS:
        if (object_type, privilege) in held:
            continue
        try:
            root.grant_privilege(ROLE, object_type, privilege, "*")
        except MilvusException as error:
            if "not found" not in str(error) and "not exist" not in str(error):
                raise
            # A right that this version doesn't ask for.
            print(f"{ROLE}: {privilege} is unknown to this Milvus")


def _wait(arguments: argparse.Namespace, user: str, password: str, deadline: float) -> MilvusClient | None:
    """Return a client; None where the password is wrong. Waits until Milvus answers. Raises MilvusException."""
    while True:
        try:
            return _connect(arguments, user, password)
        except MilvusException as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for Milvus: {error}", flush=True)
            time.sleep(3)


def _connect(arguments: argparse.Namespace, user: str, password: str) -> MilvusClient | None:
    """Return a client that is signed in; None where Milvus refuses the password."""
    tls = {"server_pem_path": arguments.ca} if arguments.ca else {}
    client = None
    try:
        client = MilvusClient(uri=arguments.uri, user=user, password=password, timeout=10, **tls)
        client.list_collections(timeout=10)
    except MilvusException as error:
        if client:
            client.close()
        if "auth check failure" in str(error) or "unauthenticated" in str(error).lower():
            return None
        if user != "root" and "PrivilegeShowCollections" in str(error):
            return None
        raise
    return client


def _must(client: MilvusClient | None, otherwise: str) -> MilvusClient:
    if client is None:
        raise ValueError(otherwise)
    return client


def _secret(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri", required=True, help="http://HOST:19530 of Milvus")
    parser.add_argument("--secret", type=Path, required=True, help="folder with root-password and password")
    parser.add_argument("--ca", help="file with the authority's certificate, for https")
    parser.add_argument("--deadline-s", type=float, default=600, help="seconds to wait for Milvus")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
