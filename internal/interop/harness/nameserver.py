"""A name server for the world's own zones: SRV and A records over UDP, NXDOMAIN for all else."""

import socket
import threading

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL = 60  # seconds


class NameServer:
    """Answers on one loopback address from a thread of its own; `asked` tells who needed which name."""

    def __init__(self, address: str, port: int = 0):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self.address, self.port = self._socket.getsockname()
        self._records: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
        self._names: set[dns.name.Name] = set()
        self.hosts: dict[str, str] = {}
        self.asked: list[str] = []
        threading.Thread(target=self._serve, name="nameserver", daemon=True).start()

    def add(self, name: str, kind: str, *values: str) -> None:
        """Adds one record set; the names above it exist from then on, without records (RFC 8020)."""
        rrset = dns.rrset.from_text(name, TTL, "IN", kind, *values)
        self._records[rrset.name, rrset.rdtype] = rrset
        above = rrset.name
        while above != dns.name.root:
            self._names.add(above)
            above = above.parent()

    def add_clients(self, domain: str, starttls: int | None, direct: int | None) -> None:
        """Announces a server's ports for clients; it was added before."""
        target = f"host.{domain}."
        if starttls:
            self.add(f"_xmpp-client._tcp.{domain}.", "SRV", f"10 0 {starttls} {target}")
        if direct:
            self.add(f"_xmpps-client._tcp.{domain}.", "SRV", f"5 0 {direct} {target}")

    def add_server(self, domain: str, address: str, starttls: int | None, direct: int | None) -> None:
        """Announces a server's ports for other servers: RFC 6120 §3.2.1 and XEP-0368 §3."""
        target = f"host.{domain}."
        self.hosts[target.rstrip(".")] = address
        self.add(target, "A", address)
        if starttls:
            self.add(f"_xmpp-server._tcp.{domain}.", "SRV", f"10 0 {starttls} {target}")
        if direct:
            self.add(f"_xmpps-server._tcp.{domain}.", "SRV", f"5 0 {direct} {target}")

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            try:
                query = dns.message.from_wire(packet)
                self._socket.sendto(self._answer(query).to_wire(), peer)
            except (dns.exception.DNSException, IndexError):
                continue  # not a query: the sender's time-out tells him

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        self.asked.append(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}")
        reply = dns.message.make_response(query, recursion_available=True)
        reply.flags |= dns.flags.AA
        found = self._records.get((question.name, question.rdtype))
        if found:
            reply.answer.append(found)
        elif question.name not in self._names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply
