"""Give Milvus the users of Shoplens: root's password, and `shoplens` with the rights it needs.

Does nothing where all is as it should be, so it may run after every upgrade. A password that changed in the Secret is
changed in Milvus; root's needs the one before, for nobody else may change it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from connecting import connect, parser, secret
from grpc import RpcError
from pymilvus import MilvusClient, MilvusException

FIRST_ROOT_PASSWORD = "Milvus"  # noqa: S105 - what every new Milvus accepts
USER = "shoplens"
ROLE = "shoplens"

# What Shoplens calls, and no more: (object type, privilege). Altering a collection's properties takes the right to
# create one; the states of replicas and segments are open to every user.
RIGHTS = [
    ("Global", "CreateCollection"),
    ("Global", "DropCollection"),
    ("Global", "DescribeCollection"),
    ("Global", "ShowCollections"),
    ("Global", "CreateAlias"),
    ("Global", "DropAlias"),
    ("Global", "DescribeAlias"),
    ("Global", "ListAliases"),
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
    # It logs a traceback for each refusal; what matters is printed here.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    arguments = parser(str(__doc__).splitlines()[0]).parse_args()
    deadline = time.monotonic() + arguments.deadline_s
    try:
        root = _sign_in_as_root(arguments, deadline)
        _grant(root)
        _set_user(root, arguments, secret(arguments.secret, "password"), deadline)
    except (MilvusException, RpcError, OSError, ValueError) as error:
        print(f"users: {error}", file=sys.stderr)
        return 1
    return 0


def _sign_in_as_root(arguments: argparse.Namespace, deadline: float) -> MilvusClient:
    """Return a client of root, whose password is the Secret's from now on. Raises ValueError."""
    wanted = secret(arguments.secret, "root-password")
    if wanted == FIRST_ROOT_PASSWORD:
        raise ValueError("root's password in the Secret is the one that everybody knows; choose another")
    client = connect(arguments, "root", wanted, deadline)
    if client:
        print("root: password is current")
        return client
    previous = arguments.secret / "previous-root-password"
    known = [secret(arguments.secret, previous.name)] if previous.exists() else []
    for password in [*known, FIRST_ROOT_PASSWORD]:
        client = connect(arguments, "root", password, deadline)
        if client is None:
            continue
        client.update_password(user_name="root", old_password=password, new_password=wanted)
        client.close()
        print("root: password changed")
        changed = connect(arguments, "root", wanted, deadline)
        if changed is None:
            raise ValueError("Milvus took root's new password and refuses it")
        return changed
    raise ValueError(
        "root's password in Milvus is neither the Secret's, nor its previous one, nor that of a new server; "
        "put the password that Milvus knows into the Secret under the key of the previous one"
    )


def _set_user(root: MilvusClient, arguments: argparse.Namespace, password: str, deadline: float) -> None:
    if USER in root.list_users():
        client = connect(arguments, USER, password, deadline)
        if client:
            client.close()
            _give_role(root)
            print(f"{USER}: password is current")
            return
        # Milvus lets root change another's password only where a setting says so, and drop the user always.
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


if __name__ == "__main__":
    raise SystemExit(main())
