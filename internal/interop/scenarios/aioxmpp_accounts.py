"""Where aioxmpp's tests get their accounts from."""

from aioxmpp.e2etest.provision import StaticPasswordProvisioner


class Fresh(StaticPasswordProvisioner):
    """An account is used once: what a test leaves behind is not there for the next."""

    async def teardown(self):
        await super(StaticPasswordProvisioner, self).teardown()
