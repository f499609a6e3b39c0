"""Whether a Ray cluster answers, told soon: Ray itself would wait for a minute, and then end the process."""

import json
import socket
import subprocess
import sys
from importlib.util import find_spec

from scaleout.errors import SweepError, near

__all__ = ["answers", "checked", "host_and_port"]

_CONNECT = 4.0
"""Waited for somebody who listens [s]."""
_ANSWER = 14.0
"""Waited for an answer as a Ray cluster gives it [s]; both together stay below twenty."""
_EXPECTED = "local, auto, HOST:PORT or ray://HOST:PORT"
# in a process of its own, for a client of a cluster that is none cannot be called off
_PROBE = """
import json, sys
from ray._private import ray_constants, services
from ray._raylet import GcsClient
try:
    address = services.canonicalize_bootstrap_address_or_die(sys.argv[1])
except ConnectionError as error:
    print(json.dumps({"none": str(error)}))
    sys.exit()
client = GcsClient(address=address)
told = client.internal_kv_get(b"CLUSTER_METADATA", namespace=ray_constants.KV_NAMESPACE_CLUSTER)
known = json.loads(told or b"{}")
print(json.dumps({"address": address, "ray": known.get("ray_version"), "python": known.get("python_version")}))
"""


def checked(address: str) -> str:
    """The address of a cluster that answers, as Ray takes it.

    Raises
    ------
    SweepError
        It is no address, nobody listens there, it is no Ray, or one of another version.
    """
    if address != "auto":
        host, port = host_and_port(address)
        problem = answers(host, port, _CONNECT)
        if problem:
            raise SweepError(f"ray {address}: cannot be reached: {problem}; is the cluster up, and its port open?")
    if address.startswith("ray://"):
        if find_spec("grpc") is None:
            raise SweepError(
                f"ray {address}: takes Ray's client, which is not installed: pip install 'ray[client]', or send the "
                "sweep to the cluster: ray job submit --working-dir . -- scaleout sweep ... --ray auto"
            )
        return address
    return _probed(address)


def host_and_port(address: str) -> tuple[str, int]:
    """The two of an address.

    Raises
    ------
    SweepError
        It is none.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    digits = port.isascii() and port.isdigit()
    if not colon or not host or "/" in host or not digits or not 0 < int(port) < 65536:
        hint = "" if colon or "/" in address else f"; {near(address, ('auto', 'local'))}"
        raise SweepError(f"ray {address!r}: is no address; expected {_EXPECTED}{hint}")
    return host, int(port)


def answers(host: str, port: int, seconds: float) -> str:
    """Why nobody listens there, in words; empty where somebody does."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return ""
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError:
        return "no such host"


def _probed(address: str) -> str:
    """Asks the cluster who it is."""
    command = [sys.executable, "-P", "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ANSWER, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise SweepError(
            f"ray {address}: something listens there that does not answer as a Ray cluster does within "
            f"{_ANSWER:.0f} s; expected the port of its head, 6379 where nothing else was said"
        ) from None
    lines = done.stdout.decode(errors="replace").splitlines()
    told = json.loads(lines[-1]) if done.returncode == 0 and lines else None
    if told is None:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no answer"])[-1]
        raise SweepError(f"ray {address}: does not answer as a Ray cluster does: {reason[:300]}")
    if "none" in told:
        raise SweepError(
            f"ray {address}: no cluster runs on this machine; start one with ray start --head, give its HOST:PORT, or "
            "take --ray local"
        )
    _same_version(address, told)
    return str(told["address"])


def _same_version(address: str, told: dict[str, str | None]) -> None:
    import platform

    import ray

    for what, there, here in (
        ("Ray", told["ray"], ray.__version__),
        ("Python", told["python"], platform.python_version()),
    ):
        if there is not None and there != here:
            raise SweepError(
                f"ray {address}: the cluster runs {what} {there} and this process {what} {here}; they have to be the "
                "same: install the cluster's here, or send the sweep there with ray job submit"
            )
