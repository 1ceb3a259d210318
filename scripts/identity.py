"""Who the command is: root becomes another user, for good, before it works in that user's folder."""

import os
import pwd
from pathlib import Path

from scripts.terminal import CommandError
from storage.errors import name_of
from storage.ownership import owner_of


def become_owner_of(folder: Path) -> None:
    """Let root become the owner of the folder, or of its parent, where the folder is still to be made.

    The owner of a folder can put links in the place of what root makes in it, and would be given what lies
    behind them; SQLite opens files by their paths, so no check of ours prevents that. For good, because all
    threads of a process have one identity.

    Raises: CommandError.
    """
    owner = owner_of(folder)
    if os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        return
    try:
        account = pwd.getpwuid(owner.st_uid)
        gid, home = account.pw_gid, account.pw_dir
        groups = os.getgrouplist(account.pw_name, gid)
    except KeyError:  # it has files, but no name
        gid, home, groups = owner.st_gid, "/", [owner.st_gid]
    try:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(owner.st_uid)
        os.environ["HOME"] = home  # where drivers look for certificates, which root's folder hides
        Path(__file__).open("rb").close()  # what is still to be imported lies beside it
    except OSError as error:
        raise CommandError(
            f"{folder} belongs to the user {name_of(owner.st_uid)}, and root cannot go on as that user here "
            f"({error.strerror}): run this as a user who can read the program and write the folder."
        ) from error
