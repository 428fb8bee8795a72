"""The small world that the scenarios run in: names, certificates and servers, all on loopback."""
