"""Connects to whatever it can think of: the broker, the internet, metadata services, sockets."""

import socket

from attempts import attempt

BROKER = (5671, 5672, 15672, 25672, 4369)


def attack(X, y):
    for port in {*BROKER, *_listening("/proc/net/tcp"), *_listening("/proc/net/tcp6")}:
        for host in ("127.0.0.1", "::1"):
            attempt(f"{host}, port {port}", lambda host=host, port=port: _connects(host, port))
    for host in ("1.1.1.1", "169.254.169.254", "fd00:ec2::254", "100.100.100.200"):
        attempt(f"{host}, TCP", lambda host=host: _connects(host, 80))
    attempt("a datagram to 1.1.1.1", lambda: _sends("1.1.1.1"))
    attempt("DNS", lambda: socket.getaddrinfo("example.org", 80))
    attempt("name servers", lambda: open("/etc/resolv.conf").read())
    attempt("other devices", lambda: set(dict(socket.if_nameindex()).values()) - {"lo"})
    for name in ("AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH", "AF_TIPC"):
        attempt(name, lambda name=name: _opens(getattr(socket, name)))
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    for name in _unix_sockets():
        attempt(f"unix socket {name}", lambda name=name: _connects_unix(name))


def _listening(path):
    """Ports that somebody listens to, as far as this network sees them."""
    try:
        lines = open(path).read().splitlines()[1:]
    except OSError:
        return set()
    fields = [line.split() for line in lines]
    return {int(words[1].rpartition(":")[2], 16) for words in fields if words[3] == "0A"}


def _connects(host, port):
    with socket.create_connection((host, port), timeout=0.2):
        return True


def _sends(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"datarun-attack", (host, 9))


def _opens(family):
    kinds = (socket.SOCK_RAW, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    for kind in kinds:
        try:
            with socket.socket(family, kind):
                return True
        except OSError as error:
            refused = error
    raise refused


def _unix_sockets():
    """Abstract ones and files, as far as this network and this file system show them."""
    names = {"/var/run/docker.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"}
    for line in open("/proc/net/unix").read().splitlines()[1:]:
        words = line.split()
        if len(words) > 7:
            names.add(words[7])
    return sorted(names)[:100]


def _connects_unix(name):
    address = "\0" + name[1:] if name.startswith("@") else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(0.2)
        client.connect(address)
        return True
