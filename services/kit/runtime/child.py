"""Becomes another program that dies with its parent; run as a script, without site-packages.

    python -I -S child.py PARENT_PID DEATH_SIGNAL NICENESS IDENTITY PROGRAM [ARGUMENT...]

NICENESS, of nice(2), is added to the parent's: what a program imports is done with its own priority, too.
IDENTITY says who to be: "same"; "uid:gid" to change to; "namespace:uid:gid" to
appear as that user while the files stay root's, which PostgreSQL asks for when
root starts it. Linux only: elsewhere the death signal is left out.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def become(identity: str) -> None:
    kind, _, rest = identity.partition(":")
    if kind == "same":
        return
    if kind == "namespace":
        uid, gid = rest.split(":")
        libc = ctypes.CDLL(None, use_errno=True)
        real_uid, real_gid = os.geteuid(), os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {real_uid} 1"),
            ("gid_map", f"{gid} {real_gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        return
    os.setgroups([])
    os.setgid(int(rest))
    os.setuid(int(kind))


def main(arguments: list[str]) -> None:
    parent, death_signal, niceness, identity, *command = arguments
    os.nice(int(niceness))
    # A change of credentials clears the death signal, so it comes first.
    become(identity)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):
            # It died before the signal was set.
            os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
