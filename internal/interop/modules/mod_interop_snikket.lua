-- Plays, in the interop run alone, what Debian has not got of Snikket. It is pibox's own, made after what Snikket's modules do:
-- the members of a circle become each other's contacts when they log in (mod_groups_internal), and an account is given out and taken in over HTTP by
-- Prosody's own mod_storage_xep0227, with the stores that Snikket's web portal names (mod_http_xep227). There is no login: it listens on loopback.
local rostermanager = require "core.rostermanager";
local storagemanager = require "core.storagemanager";
local jid = require "util.jid";
local set = require "util.set";
local st = require "util.stanza";
local xml = require "util.xml";

local host = module.host;
local pep = module:depends "pep";
local invites = module:depends "invites";
module:depends "http";
module:depends "storage_xep0227";

-- Enters a member of a circle with another one, as if both had asked and approved.
local function enter(user, other, circle)
	local other_jid, roster = jid.join(other, host), rostermanager.load_roster(user, host);
	local item = roster[other_jid] or { groups = {} };
	if item.subscription == "both" then return; end
	item.subscription, item.ask, item.groups[circle] = "both", nil, true;
	roster[other_jid] = item;
	rostermanager.save_roster(user, host, roster, other_jid);
	rostermanager.roster_push(user, host, other_jid);
end

module:hook("resource-bind", function (event)
	local user = event.session.username;
	for _, circle in ipairs(module:get_option("interop_circles", {})) do
		local members = set.new(circle);
		for other in (members:contains(user) and members - set.new { user } or set.new()):items() do
			enter(user, other, circle.name);
			enter(other, user, circle.name);
		end
	end
end);

-- What mod_storage_xep0227 reads and writes in the place of a file.
local function shelf(file)
	return {
		get_user_xml = function () return file; end;
		set_user_xml = function (_, _, _, changed) file = changed; return true; end;
	};
end

local keyval = { "roster", "vcard", "pep" }; -- and pep_data: the items of each node

local function export(_, user)
	local place = shelf(st.stanza("server-data", { xmlns = "urn:xmpp:pie:0" }):tag("host", { jid = host }):tag("user", { name = user }):reset());
	local portable = storagemanager.load_driver(host, "xep0227");
	for _, store in ipairs(keyval) do
		local data = storagemanager.open(host, store):get(user);
		if data then portable:open_xep0227(store, nil, place):set(user, data); end
	end
	for node in pairs(storagemanager.open(host, "pep"):get(user) or {}) do
		local name = "pep_" .. node;
		local items = storagemanager.get_driver(host, "pep_data"):open(name, "archive"):find(user);
		local out = portable:open_xep0227(name, "archive", place);
		for id, item, when, with in items or function () end do
			out:append(user, id, item, when, with);
		end
	end
	return [[<?xml version="1.0" encoding="utf-8" ?>]] .. tostring(place.get_user_xml());
end

local function import(event, user)
	local file = xml.parse(event.request.body);
	if not file or not file:find("host/user") then return 422; end
	file:find("host").attr.jid, file:find("host/user").attr.name = host, user;
	local place, owner = shelf(file), jid.join(user, host);
	local portable = storagemanager.load_driver(host, "xep0227");
	for _, store in ipairs { "roster", "vcard" } do
		storagemanager.open(host, store):set(user, portable:open_xep0227(store, nil, place):get(user) or {});
	end
	local service = pep.get_pep_service(user);
	for node, about in pairs(portable:open_xep0227("pep", nil, place):get(user) or {}) do
		if not service:get_node_config(node, owner) then
			service:create(node, owner, about ~= true and about.config or nil);
		end
		for id, item in portable:open_xep0227("pep_" .. node, "archive", place):find(user) or function () end do
			local ok, why = service:publish(node, owner, id, st.stanza("item", { xmlns = "http://jabber.org/protocol/pubsub", id = id }):add_child(item));
			if not ok then module:log("warn", "Item %s of %s was not published: %s", id, node, why); end
		end
	end
	return 200;
end

module:provides("http", {
	default_path = "/snikket";
	route = {
		["GET /export/*"] = export;
		["PUT /import/*"] = import;
		["GET /invite"] = function () return invites.create_account(nil, {}, 600).token; end;
	};
});
