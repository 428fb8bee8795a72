"""Servers as child processes: own folder, own loopback address, ended by process id."""

import json
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import time
import urllib.request
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MODULES = CONFIGS.parent / "modules"
START_LIMIT = 120  # seconds until all ports answer
STOP_LIMIT = 10  # seconds between SIGTERM and SIGKILL


class Server:
    """One server for one domain. Subclasses write the configuration, create accounts and give the command."""

    starttls, direct_tls, s2s, s2s_direct = 5222, 5223, 5269, 5270

    def __init__(self, domain: str, address: str, folder: Path):
        self.domain, self.address, self.folder = domain, address, folder
        self._process: subprocess.Popen | None = None
        folder.mkdir(parents=True)

    def configure(self, settings: dict[str, str], accounts: dict[str, str]) -> None:
        """Writes the configuration, and the accounts (localpart: password) where that precedes the start."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> None:
        with open(self.folder / "output", "ab") as output:
            self._process = subprocess.Popen(
                # The kernel ends the server when this process is gone, however it went.
                ["setpriv", "--pdeathsig", "TERM", *self.command()],
                cwd=self.folder, env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        """Returns when every port accepts connections; raises with the server's own words when it died."""
        deadline = time.monotonic() + START_LIMIT
        for port in self.starttls, self.direct_tls, self.s2s, self.s2s_direct:
            while not self._accepts(port):
                if self._process.poll() is not None:
                    raise RuntimeError(f"{self.domain} ended at start:\n{self.words()}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.domain} does not listen on {self.address}:{port}:\n{self.words()}")
                time.sleep(0.05)

    def create_accounts(self, domain: str, accounts: dict[str, str]) -> None:
        """For servers whose accounts are made while they run. `domain` is one of those that it serves."""

    def own_command(self) -> list[str]:
        """The beginning of the server's own commands, where it has such."""
        return []

    def export(self) -> list[Path]:
        """Ends the server and writes its accounts as it would for another one (XEP-0227)."""
        raise NotImplementedError

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Without a word, like a power cut."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again after it ended."""
        self.start()
        self.wait_ready()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def words(self) -> str:
        """The last that the server said."""
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def _accepts(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, port)) == 0

    def _fill(self, template: str, settings: dict[str, str]) -> str:
        own = {"domain": self.domain, "address": self.address, "folder": str(self.folder)}
        return string.Template((CONFIGS / template).read_text()).substitute(settings, **own)


class Prosody(Server):
    component = 5347
    template = "prosody.cfg.lua"

    def configure(self, settings, accounts):
        insecure = ", ".join(f'"{domain}"' for domain in settings["insecure"])
        self._config = self.folder / "prosody.cfg.lua"
        components = "".join(f'Component "{jid}"\n\tcomponent_secret = "{secret}"\n'
                             for jid, secret in settings["components"].items())
        more = ('"s2s_bidi";' if settings["bidi"] else "") + ('"firewall";' if settings["refusals"] else "")
        circles = "".join(f'{{ name = "Family"; {", ".join(map(json.dumps, members))} }};' for members in settings["circles"])
        self._config.write_text(self._fill(self.template, {
            **settings, "insecure": insecure, "more_modules": more,
            "components": components, "circles": circles, "modules": str(MODULES),
        }))
        (self.folder / "firewall.pfw").write_text("".join(
            f"KIND: presence\nTYPE: subscribe\nTO: {jid}\nFROM: <*>@{stranger}\nBOUNCE=policy-violation (no requests from there)\n\n"
            for jid, stranger in settings["refusals"].items()))
        store = self.folder / "data" / _prosody_name(self.domain) / "accounts"
        store.mkdir(parents=True)
        for localpart, password in accounts.items():
            # internal_hashed replaces a plain password by its hashes at the first login.
            (store / f"{_prosody_name(localpart)}.dat").write_text(f'return {{ ["password"] = "{password}"; }};\n')

    def command(self):
        return ["prosody", "-F", "--config", str(self._config)]

    def export(self):
        """Debian's prosody-migrator, with another folder than the system's in the place that it has for that."""
        self.stop()
        out = self.folder / "export"
        out.mkdir()
        stores = '{ "accounts"; "roster"; "vcard"; "private"; "archive-archive"; "pep-pubsub" }'
        config = self.folder / "migrator.cfg.lua"
        config.write_text(
            f'input {{ hosts = {{ ["{self.domain}"] = {stores} }}; type = "internal"; path = "{self.folder}/data" }}\n'
            'output { type = "xep0227" }\n')
        program = Path(shutil.which("prosody-migrator")).read_text().partition("\n")[2]
        program = re.sub(r"^CFG_DATADIR=.*$", f"CFG_DATADIR='{out}'", program, count=1, flags=re.M)
        program = program.replace("startup.switch_user();", "")  # as run_as_root for the server
        done = subprocess.run(["lua5.4", "-", "--config", str(config)], input=program, text=True, capture_output=True, timeout=START_LIMIT)
        if done.returncode:
            raise RuntimeError(f"{self.domain} was not exported:\n{done.stdout}{done.stderr}")
        return sorted(out.glob("*.xml"))


class Snikket(Prosody):
    """Prosody, set up as Snikket does; README.md tells what lacks. Its users carry their accounts over HTTP."""

    template = "snikket.cfg.lua"
    portal = 5280

    def configure(self, settings, accounts):
        super().configure(settings, accounts)
        self._users = list(accounts)

    def export(self):
        """A file for each account, then it ends."""
        out = self.folder / "export"
        out.mkdir()
        files = []
        for user in self._users:
            file = out / f"account-data-{user}.xml"
            with urllib.request.urlopen(f"{self.url}/export/{user}", timeout=START_LIMIT) as answer:
                file.write_bytes(answer.read())
            files.append(file)
        self.stop()
        return files

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.portal}/snikket"


class Ejabberd(Server):
    """Started without Erlang's distribution, so that no epmd is left behind and nothing but XMPP is listened to.

    It looks SRV up in the DNS (inetrc), but addresses with the C library's getaddrinfo, which can not be told
    a name server's port: nss_wrapper gives it a hosts file of its own.
    """

    def configure(self, settings, accounts):
        self._config = self.folder / "ejabberd.yml"
        self._config.write_text(self._fill("ejabberd.yml", settings))
        lookup = tuple(settings["dns_address"].split("."))
        (self.folder / "inetrc").write_text(
            "{lookup, [dns]}.\n{resolv_conf, \"\"}.\n{hosts_file, \"\"}.\n"
            f"{{nameserver, {{{','.join(lookup)}}}, {settings['dns_port']}}}.\n"
        )
        (self.folder / "hosts").write_text("".join(
            f"{address} {name}\n" for name, address in settings["hosts"].items()
        ))
        (self.folder / "accounts").write_text("".join(
            f'{{<<"{localpart}">>, <<"{password}">>}}.\n' for localpart, password in accounts.items()
        ))

    def command(self):
        create = (
            '{ok, Accounts} = file:consult("accounts"),'
            f'[ok = ejabberd_auth:try_register(User, <<"{self.domain}">>, Password) || {{User, Password}} <- Accounts],'
            'ok = file:write_file("ready", <<>>),'
            # In the place of ejabberdctl, which needs Erlang's distribution.
            "spawn(fun Wait() -> case filelib:is_file(\"export-now\") of true ->"
            f' ejabberd_piefxis:export_host("export", <<"{self.domain}">>), file:write_file("exported", <<>>);'
            " false -> timer:sleep(200), Wait() end end)."
        )
        return [
            shutil.which("erl") or "erl", "-noinput", "+K", "true",
            "-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd", "-eval", create,
        ]

    def export(self):
        out = self.folder / "export"
        out.mkdir()
        (self.folder / "export-now").touch()
        self._await("exported", "export its accounts")
        self.stop()
        # One file includes those of its hosts.
        return [path for path in out.glob("*.xml") if path.read_text().count("<xi:include")]

    def environment(self):
        return {
            "EJABBERD_CONFIG_PATH": str(self._config), "EJABBERD_LOG_PATH": str(self.folder / "log"),
            "ERL_INETRC": str(self.folder / "inetrc"), "ERL_CRASH_DUMP": str(self.folder / "crash"),
            "LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(self.folder / "hosts"),
            "ERL_LIBS": next(str(path.parent) for path in Path("/usr/lib").glob("*/ejabberd-*")),
            "HOME": str(self.folder),
        }

    def wait_ready(self):
        super().wait_ready()
        self._await("ready", "create its accounts")

    def _await(self, file: str, what: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not (self.folder / file).exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.domain} did not {what}:\n{self.words()}")
            time.sleep(0.05)


class Pibox(Server):
    """What is tried. Accounts are made through the local socket while it serves."""

    def __init__(self, domain: str, address: str, folder: Path, program: Path):
        super().__init__(domain, address, folder)
        self._program = program

    @property
    def log(self) -> Path:
        return self.folder / "output"

    @property
    def admin(self) -> Path:
        return self.folder / "admin.sock"

    def configure(self, settings, accounts):
        self._config = self.folder / "pibox.toml"
        dialback = "true" if settings["insecure"] else "false"
        certificates = {self.domain: settings["certificate"], **settings["beside"]}
        self._config.write_text(self._fill("pibox.toml", {
            **settings, "dialback": dialback, "domains": ", ".join(f'"{domain}"' for domain in certificates),
            "tables": "\n".join(_certificate_table(domain, Path(path)) for domain, path in certificates.items()),
        }))

    def command(self):
        return [str(self._program), "serve", "--config", str(self._config)]

    def wait_ready(self):
        """Its ports answer a moment before its commands do."""
        super().wait_ready()
        deadline = time.monotonic() + START_LIMIT
        while subprocess.run([*self.own_command(), "user", "list"], capture_output=True, timeout=START_LIMIT).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.domain} takes no commands:\n{self.words()}")
            time.sleep(0.05)

    def create_accounts(self, domain, accounts):
        for localpart, password in accounts.items():
            done = subprocess.run(
                [*self.own_command(), "user", "add", f"{localpart}@{domain}", "--password-stdin"],
                input=password + "\n", text=True, capture_output=True, timeout=START_LIMIT,
            )
            if done.returncode != 0:
                raise RuntimeError(f"{localpart}@{domain} was not made: {done.stderr}")

    def own_command(self):
        return [str(self._program), "--config", str(self._config)]

    def import_file(self, path: Path) -> dict:
        """What the program says of an import."""
        done = subprocess.run([*self.own_command(), "import", str(path), "--json"],
                              text=True, capture_output=True, timeout=START_LIMIT)
        if done.returncode:
            raise RuntimeError(f"{path} was not imported:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)


def _certificate_table(domain: str, chain: Path) -> str:
    return f'[[tls.certificate]]\ndomain = "{domain}"\nchain = "{chain}"\nkey = "{chain.with_suffix(".key")}"\n'


def _prosody_name(text: str) -> str:
    """Prosody's file names: everything but letters and digits as %xx."""
    return "".join(c if c.isascii() and c.isalnum() else f"%{ord(c):02x}" for c in text)
