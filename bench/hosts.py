"""Two hosts of one core each, n1 and n2, on this machine: for programs that bench/two_hosts starts."""

import os
from pathlib import Path

from common import ROOT, mpirun, run_checked

LINK = "eth0"


def are_here():
    return "HOSTS_FOLDER" in os.environ


def on_host(number):
    """The words in front of a command on host n1 or n2."""
    holder = (Path(os.environ["HOSTS_FOLDER"]) / f"n{number}.pid").read_text().strip()
    return ["nsenter", "--target", holder, "--net", "--uts", "--ipc", "--mount", "--root", f"--wd={ROOT}", "taskset", "-c", str(number - 1)]


def on_both(words):
    """The command of two ranks, one on each host."""
    command = on_host(1) + mpirun(1)[:1] + ["--allow-run-as-root"] * (os.getuid() == 0)
    command += ["--mca", "plm_rsh_agent", f"{os.environ['HOSTS_FOLDER']}/agent", "--mca", "btl", "tcp,self",
                "--mca", "btl_tcp_if_include", LINK, "--mca", "oob_tcp_if_include", LINK, "--bind-to", "none",
                "--mca", "mpi_yield_when_idle", "0"]  # as mpirun has it where every rank has a core
    for number in (1, 2):
        command += [":"] * (number > 1) + ["-np", "1", "--host", f"n{number}", "taskset", "-c", str(number - 1)] + words
    return command


def set_link(bytes_per_second):
    """The most that each host sends."""
    for number in (1, 2):
        run_checked(on_host(number) + ["tc", "qdisc", "replace", "dev", LINK, "root", "tbf", "rate", f"{8 * bytes_per_second:.0f}bit",
                                       "burst", "128kb", "limit", "8mb"])
