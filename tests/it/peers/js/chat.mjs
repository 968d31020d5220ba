// Everyday conversation, as an application on top of the SDK has it.

import { check, done, has, joined, normal, passwordAuth, PASSWORD, refusal, register, request, sdk, signIn, someone, start, texts, until, withPassword, createClient, base } from "./lib.mjs";

const ann = await someone("ann");
const bob = await someone("bob");
const eve = await someone("eve");
const [annId, bobId, eveId] = [ann, bob, eve].map((client) => client.getSafeUserId());
const text = (body) => ({ msgtype: "m.text", body });
let garden;

await check("sign-in", async () => {
    const flows = (await ann.loginFlows()).flows.map((flow) => flow.type);
    const wrong = await refusal(ann.loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: "ann" }, password: "x" }));
    const unknown = await refusal(ann.loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: "nobody" }, password: "x" }));
    const type = await refusal(ann.loginRequest({ type: "org.example.magic" }));
    const who = await ann.whoami();
    return { password: flows.includes("m.login.password"), wrong, unknown, type, who: Object.keys(who).sort(), user: who.user_id };
});

await check("capabilities", async () => {
    const found = await ann.getCapabilities();
    return { names: Object.keys(found).filter((name) => name.startsWith("m.")).sort(), rooms: found["m.room_versions"].default };
});

for (const preset of ["private_chat", "trusted_private_chat", "public_chat"]) {
    await check(`a ${preset} room`, async () => {
        const { room_id: roomId } = await ann.createRoom({ preset, name: preset, topic: "tea", invite: [bobId], is_direct: preset.startsWith("trusted") });
        const state = await ann.roomState(roomId);
        await until("the invite", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
        const direct = bob.getRoom(roomId).getMember(bobId).events.member.getContent().is_direct ?? null;
        const stripped = [...bob.getRoom(roomId).currentState.events.keys()].sort();
        await bob.joinRoom(roomId);
        await joined(ann, roomId, 2);
        await joined(bob, roomId, 2);
        if (preset === "private_chat") garden = roomId;
        return {
            types: state.map((event) => event.type).sort(),
            state: Object.fromEntries(
                state
                    .filter((event) => !["m.room.member"].includes(event.type))
                    .map((event) => [event.type, event.content])
                    .sort(([a], [b]) => (a < b ? -1 : 1)),
            ),
            direct,
            stripped,
            name: bob.getRoom(roomId).name,
        };
    });
}

let hello;
await check("a message arrives", async () => {
    hello = (await ann.sendMessage(garden, text("hello"))).event_id;
    const event = await has(bob, garden, hello);
    return { sender: event.getSender(), content: event.getContent(), unsigned: Object.keys(event.getUnsigned()).sort() };
});

await check("the sender's own copy has its transaction ID", async () => {
    const { event_id: id } = await ann.sendMessage(garden, text("mine"), "my-transaction");
    const event = await has(ann, garden, id);
    const repeated = await ann.sendEvent(garden, "m.room.message", text("mine"), "other");
    const again = await request("PUT", `/_matrix/client/v3/rooms/${encodeURIComponent(garden)}/send/m.room.message/my-transaction`, ann.getAccessToken(), text("mine"));
    return { transaction: event.getUnsigned().transaction_id, same: again.json.event_id === id, other: repeated.event_id !== id };
});

await check("an edit replaces the text", async () => {
    const { event_id: id } = await ann.sendMessage(garden, text("tpyo"));
    await ann.sendMessage(garden, { ...text("* typo"), "m.new_content": text("typo"), "m.relates_to": { rel_type: "m.replace", event_id: id } });
    const event = await has(bob, garden, id);
    await until("the edit", () => event.replacingEvent());
    const fetched = await bob.fetchRoomEvent(garden, id);
    return { shown: event.getContent(), body: fetched.content.body, bundled: Object.keys(fetched.unsigned["m.relations"] ?? {}), edit: fetched.unsigned["m.relations"]?.["m.replace"]?.content?.["m.new_content"]?.body };
});

await check("reactions are counted and can be taken back", async () => {
    const react = (client, key) => client.sendEvent(garden, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: hello, key } });
    const own = await ann.sendEvent(garden, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: hello, key: "👍" } });
    await react(bob, "👍");
    await react(bob, "🎉");
    const relations = await until("three reactions", () => {
        const found = bob.getRoom(garden).relations.getChildEventsForEvent(hello, "m.annotation", "m.reaction");
        return found?.getRelations().length === 3 && found;
    });
    const sorted = relations.getSortedAnnotationsByKey().map(([key, events]) => [key, events.size]);
    await ann.redactEvent(garden, own.event_id);
    await until("two reactions", () => relations.getRelations().length === 2);
    return { sorted, twice: await refusal(react(bob, "👍")) };
});

await check("a redaction takes the text away", async () => {
    const { event_id: id } = await ann.sendMessage(garden, text("oops"));
    const event = await has(bob, garden, id);
    await ann.redactEvent(garden, id, undefined, { reason: "never mind" });
    await until("the redaction", () => event.isRedacted());
    const fetched = await bob.fetchRoomEvent(garden, id);
    const others = await refusal(bob.redactEvent(garden, hello));
    const unknown = await refusal(ann.redactEvent(garden, "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    return { content: fetched.content, reason: fetched.unsigned.redacted_because?.content?.reason, others, unknown };
});

let root;
await check("replies and threads", async () => {
    const reply = await bob.sendMessage(garden, { ...text("> hello\n\nhi"), "m.relates_to": { "m.in_reply_to": { event_id: hello } } });
    root = (await ann.sendMessage(garden, text("root"))).event_id;
    await has(bob, garden, root);
    for (const body of ["first", "second"]) {
        await bob.sendMessage(garden, root, { ...text(body), "m.relates_to": { rel_type: "m.thread", event_id: root, is_falling_back: true, "m.in_reply_to": { event_id: root } } });
    }
    const thread = await until("the thread", () => {
        const found = ann.getRoom(garden).getThread(root);
        return found?.length === 2 && found.replyToEvent?.getContent().body === "second" && found;
    });
    const fetched = await ann.fetchRoomEvent(garden, root);
    const summary = fetched.unsigned["m.relations"]["m.thread"];
    const nested = await refusal(bob.sendMessage(garden, { ...text("nested"), "m.relates_to": { rel_type: "m.thread", event_id: thread.replyToEvent.getId() } }));
    const list = await ann.createThreadListMessagesRequest(garden, null, 10, "b", 0);
    const mine = await ann.createThreadListMessagesRequest(garden, null, 10, "b", 1);
    return {
        reply: (await has(ann, garden, reply.event_id)).replyEventId === hello,
        count: summary.count,
        participated: summary.current_user_participated,
        latest: summary.latest_event.content.body,
        nested,
        listed: list.chunk.map((event) => event.content.body),
        mine: mine.chunk.map((event) => event.content.body),
    };
});

await check("relations are listed", async () => {
    const all = await ann.fetchRelations(garden, root, null, null, { limit: 10, dir: "b" });
    const threaded = await ann.fetchRelations(garden, root, "m.thread", "m.room.message", { limit: 1, dir: "f" });
    const none = await ann.fetchRelations(garden, root, "m.reference");
    const unknown = await refusal(ann.fetchRelations(garden, "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "m.thread"));
    return { all: all.chunk.map((event) => event.content.body), keys: Object.keys(all).sort(), first: threaded.chunk.map((event) => event.content.body), more: Boolean(threaded.next_batch), none: none.chunk.length, unknown };
});

await check("receipts and unread counts", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", invite: [bobId] });
    await bob.joinRoom(roomId);
    await joined(ann, roomId, 2);
    const count = (kind) => bob.getRoom(roomId)?.getUnreadNotificationCount(kind) ?? 0;
    const one = (await ann.sendMessage(roomId, text("one"))).event_id;
    const two = (await ann.sendMessage(roomId, { ...text("two"), "m.mentions": { user_ids: [bobId] } })).event_id;
    await has(bob, roomId, two);
    await until("two unread", () => count("total") === 2 && count("highlight") === 1);
    await bob.sendReadReceipt(await has(bob, roomId, one));
    await until("one unread", () => count("total") === 1 && count("highlight") === 1);
    await until("the receipt", () => ann.getRoom(roomId).getEventReadUpTo(bobId) === one);
    await bob.sendReadReceipt(await has(bob, roomId, two), "m.read.private");
    await until("none unread", () => count("total") === 0 && count("highlight") === 0);
    const threaded = (await ann.sendMessage(roomId, one, { ...text("threaded"), "m.relates_to": { rel_type: "m.thread", event_id: one } })).event_id;
    await until("one unread in the thread", () => bob.getRoom(roomId).getThreadUnreadNotificationCount(one, "total") === 1);
    const main = count("total");
    const event = await until("the event", () => bob.getRoom(roomId).findEventById(threaded));
    await bob.sendReadReceipt(event);
    await until("none unread in the thread", () => bob.getRoom(roomId).getThreadUnreadNotificationCount(one, "total") === 0);
    await bob.setRoomReadMarkers(roomId, two);
    await until("the marker", () => bob.getRoom(roomId).getAccountData("m.fully_read")?.getContent().event_id === two);
    return { main, seen: ann.getRoom(roomId).getEventReadUpTo(bobId) === two };
});

await check("own messages and unread counts", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", invite: [bobId, eveId] });
    for (const client of [bob, eve]) await client.joinRoom(roomId);
    const counts = async () => {
        const filter = encodeURIComponent(JSON.stringify({ room: { rooms: [roomId] } }));
        const answer = await request("GET", `/_matrix/client/v3/sync?timeout=0&filter=${filter}`, bob.getAccessToken());
        return answer.json.rooms.join[roomId].unread_notifications;
    };
    await ann.sendMessage(roomId, text("one"));
    const before = await counts();
    await bob.sendMessage(roomId, text("two"));
    const after = await counts();
    await ann.sendMessage(roomId, text("three"));
    return { before, after, last: await counts() };
});

await check("typing", async () => {
    const typing = () => ann.getRoom(garden).getMember(bobId).typing;
    await bob.sendTyping(garden, true, 20_000);
    await until("typing", () => typing());
    await bob.sendTyping(garden, false, 0);
    await until("not typing", () => !typing());
    const others = await request("PUT", `/_matrix/client/v3/rooms/${encodeURIComponent(garden)}/typing/${encodeURIComponent(annId)}`, bob.getAccessToken(), { typing: true });
    return { others: [others.status, others.json.errcode] };
});

await check("presence", async () => {
    await bob.setPresence({ presence: "unavailable", status_msg: "out for tea" });
    await until("the status", () => ann.getUser(bobId)?.presenceStatusMsg === "out for tea");
    const asked = await ann.getPresence(bobId);
    const strange = await refusal(eve.getPresence("@nobody:" + annId.split(":").slice(1).join(":")));
    return { state: ann.getUser(bobId).presence, asked: Object.keys(asked).sort(), strange };
});

await check("lazy members, filters and limits of a first sync", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "public_chat", name: "crowd" });
    for (const client of [bob, eve]) await client.joinRoom(roomId);
    for (let n = 0; n < 12; n++) await ann.sendMessage(roomId, text(`line ${n}`));
    const phone = await start(await signIn("ann", "phone"), { lazyLoadMembers: true, initialSyncLimit: 5 });
    const room = phone.getRoom(roomId);
    const before = room.getJoinedMembers().map((member) => member.userId).sort();
    const shown = texts(room);
    const counted = room.getJoinedMemberCount();
    await room.loadMembersIfNeeded();
    const after = room.getJoinedMembers().map((member) => member.userId).sort();
    await phone.scrollback(room, 30);
    const all = texts(room).length;
    await phone.logout(true);
    return { before, shown, counted, after, all };
});

await check("going back and forth in a long room", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", name: "long", invite: [bobId] });
    await bob.joinRoom(roomId);
    const ids = [];
    for (let n = 0; n < 60; n++) ids.push((await ann.sendMessage(roomId, text(`line ${n}`))).event_id);
    const reader = await start(await signIn("bob", "reader"), { initialSyncLimit: 10 });
    const room = reader.getRoom(roomId);
    const first = texts(room).length;
    while (room.getLiveTimeline().getPaginationToken("b")) await reader.scrollback(room, 20);
    const lines = texts(room);
    const other = await start(await signIn("bob", "window"), { initialSyncLimit: 1 });
    const window = new sdk.TimelineWindow(other, other.getRoom(roomId).getUnfilteredTimelineSet());
    await window.load(ids[30], 11);
    const middle = window.getEvents().map((event) => event.getContent().body);
    while (window.canPaginate("f")) if (!(await window.paginate("f", 10))) break;
    while (window.canPaginate("b")) if (!(await window.paginate("b", 10))) break;
    const everything = window.getEvents().filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
    const wanted = ids.map((_, n) => `line ${n}`);
    const range = await ann.createMessagesRequest(roomId, null, 3, "f");
    await reader.logout(true);
    await other.logout(true);
    return {
        first: first <= 10,
        lines: JSON.stringify(lines) === JSON.stringify(wanted),
        middle: middle.includes("line 30"),
        everything: JSON.stringify(everything) === JSON.stringify(wanted),
        forward: range.chunk.map((event) => event.type),
    };
});

await check("messages found by time and by search", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", name: "search" });
    const { event_id: id } = await ann.sendMessage(roomId, text("the quick brown fox"));
    await ann.sendMessage(roomId, text("the lazy dog"));
    const at = (await ann.fetchRoomEvent(roomId, id)).origin_server_ts;
    const near = await ann.timestampToEvent(roomId, at, "f");
    const none = await refusal(ann.timestampToEvent(roomId, at + 1e9, "f"));
    const found = await request("POST", "/_matrix/client/v3/search", ann.getAccessToken(), { search_categories: { room_events: { search_term: "fox", filter: { rooms: [roomId] } } } });
    const results = found.json?.search_categories?.room_events;
    return { near: near.event_id === id, none, status: found.status, found: results?.results?.map((result) => result.result.content.body), count: results?.count, highlights: results?.highlights };
});

await check("media", async () => {
    const pixel = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");
    const { content_uri: uri } = await ann.uploadContent(new Blob([pixel]), { name: "Grüße.png", type: "image/png" });
    const get = async (url, token) => {
        const answer = await fetch(url, token ? { headers: { authorization: `Bearer ${token}` } } : {});
        const body = Buffer.from(await answer.arrayBuffer());
        return { status: answer.status, type: answer.headers.get("content-type"), disposition: answer.headers.get("content-disposition"), same: body.equals(pixel), csp: Boolean(answer.headers.get("content-security-policy")), corp: answer.headers.get("cross-origin-resource-policy") };
    };
    const url = bob.mxcUrlToHttp(uri, undefined, undefined, undefined, false, true, true);
    const small = bob.mxcUrlToHttp(uri, 32, 32, "crop", false, true, true);
    const old = bob.mxcUrlToHttp(uri, undefined, undefined, undefined, false, true, false);
    const config = await ann.getMediaConfig(true);
    const script = await ann.uploadContent(new Blob(["<script>alert(1)</script>"]), { name: "x.html", type: "text/html" });
    return {
        get: await get(url, bob.getAccessToken()),
        stranger: (await get(url)).status,
        thumbnail: (({ status, type }) => ({ status, type }))(await get(small, bob.getAccessToken())),
        old: (await get(old)).status,
        missing: (await get(url.replace("?", "x?"), bob.getAccessToken())).status,
        html: (({ status, type, disposition }) => ({ status, type, disposition }))(await get(bob.mxcUrlToHttp(script.content_uri, undefined, undefined, undefined, false, true, true), bob.getAccessToken())),
        config: typeof config["m.upload.size"],
        noThumbnail: (await get(bob.mxcUrlToHttp(script.content_uri, 32, 32, "crop", false, true, true), bob.getAccessToken())).status,
    };
});

await check("profile", async () => {
    await ann.setDisplayName("Ann 🌱");
    await ann.setAvatarUrl("mxc://example.org/abc");
    await until("the new name", () => bob.getRoom(garden).getMember(annId)?.rawDisplayName === "Ann 🌱" && bob.getRoom(garden).getMember(annId).getMxcAvatarUrl() === "mxc://example.org/abc");
    const before = await bob.getProfileInfo(annId);
    const none = await refusal(bob.getProfileInfo("@nobody:" + annId.split(":").slice(1).join(":")));
    const extended = await ann.doesServerSupportExtendedProfiles();
    if (extended) await ann.setExtendedProfileProperty("m.tz", "Europe/Berlin");
    const after = extended ? await bob.getExtendedProfile(annId) : null;
    const others = await request("PUT", `/_matrix/client/v3/profile/${encodeURIComponent(annId)}/displayname`, bob.getAccessToken(), { displayname: "x" });
    return { before, none, after, others: [others.status, others.json.errcode] };
});

await check("account data and tags reach the other device", async () => {
    const other = await start(await signIn("ann", "other"));
    await ann.setAccountDataRaw("org.example.note", { text: "tea" });
    await until("the note", () => other.getAccountData("org.example.note")?.getContent().text === "tea");
    await ann.setRoomAccountData(garden, "org.example.room", { x: 1 });
    await until("the room's", () => other.getRoom(garden).getAccountData("org.example.room")?.getContent().x === 1);
    await ann.setRoomTag(garden, "m.favourite", { order: 0.5 });
    await until("the tag", () => other.getRoom(garden).tags["m.favourite"]?.order === 0.5);
    const tags = await ann.getRoomTags(garden);
    await ann.deleteRoomTag(garden, "m.favourite");
    await until("no tag", () => !other.getRoom(garden).tags["m.favourite"]);
    const path = `/_matrix/client/v3/user/${encodeURIComponent(annId)}/account_data`;
    const tries = [];
    for (const [method, type, body, token] of [["GET", "org.example.none", undefined, ann], ["PUT", "m.fully_read", {}, ann], ["PUT", "m.push_rules", {}, ann], ["GET", "org.example.note", undefined, bob], ["PUT", "org.example.bad", [1], ann]]) {
        const answer = await request(method, `${path}/${type}`, token.getAccessToken(), body);
        tries.push([method, type, answer.status, answer.json.errcode]);
    }
    await other.logout(true);
    return { tags, tries };
});

await check("push rules decide what counts", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", name: "rules", invite: [bobId, eveId] });
    for (const client of [bob, eve]) await client.joinRoom(roomId);
    await joined(bob, roomId, 3);
    const counts = () => [bob.getRoom(roomId).getUnreadNotificationCount("total") ?? 0, bob.getRoom(roomId).getUnreadNotificationCount("highlight") ?? 0];
    const seen = [];
    const say = async (content, expect) => {
        const { event_id: id } = await ann.sendMessage(roomId, content);
        await has(bob, roomId, id);
        await until("the rule set", () => true);
        const after = await request("GET", `/_matrix/client/v3/sync?timeout=0&filter=${encodeURIComponent(JSON.stringify({ room: { rooms: [roomId] } }))}`, bob.getAccessToken());
        const unread = after.json.rooms.join[roomId].unread_notifications;
        seen.push([expect, unread.notification_count, unread.highlight_count]);
    };
    await say(text("plain"), "plain");
    await say({ msgtype: "m.notice", body: "notice" }, "notice");
    await say({ ...text("@room"), "m.mentions": { room: true } }, "room");
    await say({ ...text("hey bob"), "m.mentions": {} }, "name without mention");
    await say(text("hey bob"), "name, old style");
    await bob.addPushRule("global", "content", "kettle", { pattern: "kettle", actions: ["notify", { set_tweak: "highlight" }] });
    await say(text("the kettle is on"), "keyword");
    await bob.addPushRule("global", "room", roomId, { actions: [] });
    await say(text("muted"), "muted room");
    await say({ ...text("mention"), "m.mentions": { user_ids: [bobId] } }, "mention in a muted room");
    await bob.deletePushRule("global", "room", roomId);
    await bob.addPushRule("global", "sender", annId, { actions: [] });
    await say(text("silenced"), "muted sender");
    await bob.deletePushRule("global", "sender", annId);
    await bob.setPushRuleEnabled("global", "override", ".m.rule.master", true);
    await say({ ...text("mention"), "m.mentions": { user_ids: [bobId] } }, "everything off");
    await bob.setPushRuleEnabled("global", "override", ".m.rule.master", false);
    await bob.setPushRuleActions("global", "underride", ".m.rule.message", []);
    await say(text("quiet"), "messages off");
    await bob.setPushRuleActions("global", "underride", ".m.rule.message", ["notify"]);
    await say(text("loud"), "messages on");
    const rules = await bob.getPushRules();
    const ids = Object.fromEntries(Object.entries(rules.global).map(([kind, list]) => [kind, list.map((rule) => rule.rule_id)]));
    const wrong = [
        await refusal(bob.deletePushRule("global", "override", ".m.rule.master")),
        await refusal(bob.addPushRule("global", "override", ".mine", { actions: [], conditions: [] })),
        await refusal(bob.setPushRuleEnabled("global", "override", "nothing", true)),
        await refusal(bob.addPushRule("global", "content", "nopattern", { actions: [] })),
    ];
    return { seen, ids, wrong, master: rules.global.override[0].rule_id, now: counts().length };
});

await check("directory", async () => {
    const local = `#tea:${annId.split(":").slice(1).join(":")}`;
    const { room_id: roomId } = await ann.createRoom({ preset: "public_chat", name: "Tea house", topic: "green and black", visibility: "public" });
    await ann.createAlias(local, roomId);
    const again = await refusal(ann.createAlias(local, roomId));
    const found = await bob.getRoomIdForAlias(local);
    // Synapse counts what its directory tells of a room after the answer to its creation.
    const listed = (term) =>
        until(`${term} in the directory`, async () => {
            const page = await bob.publicRooms({ filter: { generic_search_term: term } });
            return page.chunk.length > 0 && page;
        });
    const list = await listed("tea HOUSE");
    const topic = await listed("black");
    const summary = await bob.getRoomSummary(local);
    await ann.sendStateEvent(roomId, "m.room.canonical_alias", { alias: local });
    const bad = await refusal(ann.sendStateEvent(roomId, "m.room.canonical_alias", { alias: local.replace("tea", "coffee") }));
    const others = await refusal(bob.deleteAlias(local));
    await ann.deleteAlias(local);
    const gone = await refusal(bob.getRoomIdForAlias(local));
    await ann.setRoomDirectoryVisibility(roomId, "private");
    const hidden = await bob.publicRooms({ filter: { generic_search_term: "tea house" } });
    const people = await ann.searchUserDirectory({ term: "bo", limit: 5 });
    return {
        again,
        found: Object.keys(found).sort(),
        same: found.room_id === roomId,
        list: list.chunk.map((room) => Object.fromEntries(Object.entries(room).sort())),
        topic: topic.chunk.length,
        summary: Object.fromEntries(Object.entries(summary).sort()),
        bad,
        others,
        gone,
        hidden: hidden.chunk.length,
        people: people.results.map((person) => person.user_id),
    };
});

let space;
await check("a space and its rooms", async () => {
    space = (await ann.createRoom({ preset: "public_chat", name: "Space", creation_content: { type: "m.space" } })).room_id;
    const inner = (await ann.createRoom({ preset: "public_chat", name: "Inner space", creation_content: { type: "m.space" } })).room_id;
    const open = (await ann.createRoom({ preset: "public_chat", name: "Open" })).room_id;
    const closed = (await ann.createRoom({ preset: "private_chat", name: "Closed" })).room_id;
    const child = (parent, room, content = {}) => ann.sendStateEvent(parent, "m.space.child", { via: [annId.split(":").slice(1).join(":")], ...content }, room);
    await child(space, open, { suggested: true, order: "b" });
    await child(space, inner, { order: "a" });
    await child(space, closed);
    await child(inner, open);
    const names = (page) => page.rooms.map((room) => [room.name, room.room_type ?? null, room.children_state.length]);
    await until("the names of all rooms", async () => (await ann.getRoomHierarchy(space)).rooms.every((room) => room.name));
    const all = await ann.getRoomHierarchy(space);
    const asBob = await bob.getRoomHierarchy(space, 20, 1, false);
    const suggested = await bob.getRoomHierarchy(space, 20, 1, true);
    const pages = [];
    let from;
    do {
        const page = await ann.getRoomHierarchy(space, 2, 5, false, from);
        pages.push(page.rooms.length);
        from = page.next_batch;
    } while (from && pages.length < 5);
    const outsider = await refusal(eve.getRoomHierarchy(closed));
    return { all: names(all), asBob: names(asBob), suggested: names(suggested), pages, outsider, keys: all.rooms.map((room) => Object.keys(room).sort()) };
});

await check("knocking", async () => {
    const { room_id: roomId } = await ann.createRoom({ name: "door", initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }] });
    const direct = await refusal(bob.joinRoom(roomId));
    await bob.knockRoom(roomId, { reason: "let me in" });
    await until("the knock", () => bob.getRoom(roomId)?.getMyMembership() === "knock");
    const stripped = [...bob.getRoom(roomId).currentState.events.keys()].sort();
    await until("the knock at the other side", () => ann.getRoom(roomId).getMember(bobId)?.membership === "knock");
    await ann.invite(roomId, bobId);
    await bob.joinRoom(roomId);
    await joined(ann, roomId, 2);
    await eve.knockRoom(roomId);
    await eve.leave(roomId);
    await until("taken back", () => ann.getRoom(roomId).getMember(eveId)?.membership === "leave");
    return { direct, stripped };
});

await check("restricted rooms", async () => {
    const rule = { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: space }] };
    const { room_id: roomId } = await ann.createRoom({ name: "members only", initial_state: [{ type: "m.room.join_rules", state_key: "", content: rule }] });
    const outside = await refusal(eve.joinRoom(roomId));
    await bob.joinRoom(space);
    await bob.joinRoom(roomId);
    const member = (await joined(bob, roomId, 2)).getMember(bobId).events.member.getContent();
    return { outside, authorised: member.join_authorised_via_users_server };
});

await check("an upgraded room", async () => {
    for (const to of ["11", "12"]) {
        const { room_id: roomId } = await ann.createRoom({ preset: "public_chat", name: "old", room_version: "10", topic: "moving" });
        await bob.joinRoom(roomId);
        const { replacement_room: next } = await ann.upgradeRoom(roomId, to);
        await until("the tombstone", () => bob.getRoom(roomId).currentState.getStateEvents("m.room.tombstone", "")?.getContent().replacement_room === next);
        const state = await ann.roomState(next);
        const create = state.find((event) => event.type === "m.room.create").content;
        await bob.joinRoom(next);
        await joined(bob, next, 2);
        const late = await refusal(bob.sendMessage(roomId, text("late")));
        if (to === "12") return { types: state.map((event) => event.type).sort(), create: Object.keys(create).sort(), predecessor: Object.keys(create.predecessor).sort(), late };
    }
});

await check("turning down, throwing out, banning, forgetting", async () => {
    const { room_id: roomId } = await ann.createRoom({ preset: "private_chat", name: "manners", invite: [bobId] });
    await until("the invite", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.leave(roomId);
    await until("turned down", () => bob.getRoom(roomId)?.getMyMembership() === "leave");
    const uninvited = await refusal(bob.joinRoom(roomId));
    await ann.invite(roomId, bobId, "please");
    await bob.joinRoom(roomId);
    await joined(bob, roomId, 2);
    await ann.kick(roomId, bobId, "noise");
    await until("thrown out", () => bob.getRoom(roomId).getMyMembership() === "leave");
    const reason = bob.getRoom(roomId).getMember(bobId).events.member.getContent().reason;
    await ann.ban(roomId, bobId, "more noise");
    await until("banned", () => bob.getRoom(roomId).getMyMembership() === "ban");
    const banned = await refusal(bob.joinRoom(roomId));
    const invited = await refusal(ann.invite(roomId, bobId));
    await ann.unban(roomId, bobId);
    const history = await bob.createMessagesRequest(roomId, null, 3, "b");
    await bob.forget(roomId);
    const forgotten = await refusal(bob.createMessagesRequest(roomId, null, 3, "b"));
    const power = await refusal(eve.kick(garden, annId));
    const kickStranger = await refusal(ann.kick(garden, eveId));
    const again = await refusal(ann.unban(garden, eveId));
    return { uninvited, reason, banned, invited, history: history.chunk.map((event) => event.type), forgotten, power, kickStranger, again };
});

await check("ignored people are not heard", async () => {
    await bob.setIgnoredUsers([eveId]);
    const { room_id: roomId } = await eve.createRoom({ preset: "private_chat", name: "spam", invite: [bobId] });
    await until("the list", () => bob.isUserIgnored(eveId));
    const { room_id: shared } = await ann.createRoom({ preset: "public_chat", name: "shared" });
    for (const client of [bob, eve]) await client.joinRoom(shared);
    const rude = (await eve.sendMessage(shared, text("rude"))).event_id;
    const fine = (await ann.sendMessage(shared, text("fine"))).event_id;
    await has(bob, shared, fine);
    const heard = Boolean(bob.getRoom(shared).findEventById(rude));
    const invited = Boolean(bob.getRoom(roomId));
    await bob.setIgnoredUsers([]);
    await until("no list", () => !bob.isUserIgnored(eveId));
    return { heard, invited };
});

await check("devices", async () => {
    const laptop = await signIn("bob", "laptop");
    const id = laptop.getDeviceId();
    const names = (await bob.getDevices()).devices.map((device) => device.display_name).sort();
    await bob.setDeviceDetails(id, { display_name: "old laptop" });
    const renamed = await bob.getDevice(id);
    let flows;
    try {
        await bob.deleteDevice(id);
    } catch (error) {
        flows = error.data.flows;
    }
    const wrong = await refusal(withWrongPassword(bob, (auth) => bob.deleteDevice(id, auth)));
    await withPassword(bob, (auth) => bob.deleteDevice(id, auth));
    const dead = await refusal(laptop.whoami());
    const none = await refusal(bob.getDevice(id));
    return { names, renamed: [renamed.display_name, Object.keys(renamed).sort()], flows, wrong, dead, none };
});

async function withWrongPassword(client, makeRequest) {
    try {
        return await makeRequest();
    } catch (error) {
        if (!error.data?.flows) throw error;
        return makeRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: client.getUserId() }, password: "wrong", session: error.data.session });
    }
}

await check("refresh tokens", async () => {
    await register("rita");
    const anonymous = createClient({ baseUrl: base });
    const login = await anonymous.loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: "rita" }, password: PASSWORD, refresh_token: true });
    const next = await anonymous.refreshToken(login.refresh_token);
    const old = await request("GET", "/_matrix/client/v3/account/whoami", login.access_token);
    const fresh = await request("GET", "/_matrix/client/v3/account/whoami", next.access_token);
    const unknown = await refusal(anonymous.refreshToken("nonsense"));
    const used = await refusal(anonymous.refreshToken(login.refresh_token));
    return { keys: Object.keys(login).sort(), next: Object.keys(next).sort(), old: [old.status, old.json.errcode], fresh: fresh.status, unknown, used };
});

await check("a new password ends the other sessions", async () => {
    await register("paul");
    const [one, two] = [await signIn("paul", "one"), await signIn("paul", "two")];
    await withPassword(one, (auth) => one.setPassword(auth, "another password entirely", true));
    const other = await refusal(two.whoami());
    const own = await refusal(one.whoami());
    const before = await refusal(signIn("paul"));
    return { other, own, before };
});

await check("an account is closed", async () => {
    await register("olga");
    const olga = await start(await signIn("olga"));
    const { room_id: roomId } = await ann.createRoom({ preset: "public_chat", name: "olga's" });
    await olga.joinRoom(roomId);
    await joined(ann, roomId, 2);
    await withPassword(olga, (auth) => olga.deactivateAccount(auth, true));
    await until("left", () => ann.getRoom(roomId).getJoinedMemberCount() === 1);
    const dead = await refusal(olga.whoami());
    const login = await refusal(signIn("olga"));
    const taken = await refusal(ann.isUsernameAvailable("olga").then((free) => (free ? null : Promise.reject(Object.assign(new Error(), { errcode: "taken", httpStatus: 0 })))));
    return { dead, login, taken };
});

/** A server that does not have an endpoint yet says so: a fact, not a failure of the check. */
const served = (work) => async () => {
    try {
        return await work();
    } catch (error) {
        if (error?.errcode === "M_UNRECOGNIZED") return { served: false };
        throw error;
    }
};

await check("pushers", served(async () => {
    const pusher = { app_id: "org.example", pushkey: "key", kind: "http", app_display_name: "App", device_display_name: "phone", lang: "en", data: { url: "https://push.example.org/_matrix/push/v1/notify" } };
    await bob.setPusher(pusher);
    const pushers = (await bob.getPushers()).pushers.map((entry) => Object.keys(entry).sort());
    await bob.removePusher("key", "org.example");
    const left = (await bob.getPushers()).pushers.length;
    const bad = await refusal(bob.setPusher({ ...pusher, data: {} }));
    return { pushers, left, bad };
}));

await check("reports", async () => {
    const report = await refusal(bob.reportEvent(garden, hello, -100, "spam"));
    const unknown = await refusal(bob.reportEvent(garden, "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", -100, "spam"));
    const room = await refusal(bob.reportRoom(garden, "spam"));
    const nowhere = await refusal(bob.reportRoom("!nowhere", "spam"));
    return { report, unknown, room, nowhere };
});

await check("an OpenID token", served(async () => {
    return { keys: Object.keys(await bob.getOpenIdToken()).sort() };
}));

await check("turn servers", async () => {
    const turn = await request("GET", "/_matrix/client/v3/voip/turnServer", bob.getAccessToken());
    return { status: turn.status, errcode: turn.json.errcode ?? null };
});

await check("the list of notifications", async () => {
    const answer = await request("GET", "/_matrix/client/v3/notifications?limit=2", bob.getAccessToken());
    return { status: answer.status, keys: Object.keys(answer.json).sort(), entries: answer.json.notifications?.map((entry) => Object.keys(entry).sort()) };
});

await check("a filter is stored", async () => {
    const made = await request("POST", `/_matrix/client/v3/user/${encodeURIComponent(annId)}/filter`, ann.getAccessToken(), { room: { timeline: { limit: 3 } }, event_fields: ["type", "content.body"] });
    const read = await request("GET", `/_matrix/client/v3/user/${encodeURIComponent(annId)}/filter/${made.json.filter_id}`, ann.getAccessToken());
    const none = await request("GET", `/_matrix/client/v3/user/${encodeURIComponent(annId)}/filter/99999`, ann.getAccessToken());
    const others = await request("GET", `/_matrix/client/v3/user/${encodeURIComponent(annId)}/filter/${made.json.filter_id}`, bob.getAccessToken());
    const synced = await request("GET", `/_matrix/client/v3/sync?timeout=0&filter=${made.json.filter_id}`, ann.getAccessToken());
    const events = synced.json.rooms.join[garden].timeline.events;
    return { read: read.json, none: [none.status, none.json.errcode], others: [others.status, others.json.errcode], fields: events.map((event) => Object.keys(event).sort()), limited: synced.json.rooms.join[garden].timeline.limited };
});

await check("signing out", async () => {
    const device = await signIn("eve", "brief");
    const token = device.getAccessToken();
    await device.logout(true);
    const after = await request("GET", "/_matrix/client/v3/account/whoami", token);
    const none = await request("GET", "/_matrix/client/v3/account/whoami");
    return { after: [after.status, after.json.errcode, after.json.soft_logout ?? null], none: [none.status, none.json.errcode] };
});

done();
