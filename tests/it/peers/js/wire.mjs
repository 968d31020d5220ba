// Requests by hand: which status, which error code, which fields. What a library hides, and what no library sends.

import { check, done, register, request, signIn } from "./lib.mjs";

const tokens = {};
const ids = {};
for (const name of ["ann", "bob", "eve"]) {
    ids[name] = await register(name);
    tokens[name] = (await signIn(name)).getAccessToken();
}
const domain = ids.ann.slice(ids.ann.indexOf(":") + 1);
const v3 = "/_matrix/client/v3";
const e = encodeURIComponent;

async function call(method, path, body, who = "ann") {
    return request(method, path.startsWith("/_matrix") || path.startsWith("/.well") ? path : v3 + path, who && tokens[who], body);
}

const { room_id: room } = (await call("POST", "/createRoom", { preset: "private_chat", name: "wire", invite: [ids.bob] })).json;
await call("POST", `/rooms/${e(room)}/join`, {}, "bob");
const say = async (body, extra = {}) => (await call("PUT", `/rooms/${e(room)}/send/m.room.message/${Math.random()}`, { msgtype: "m.text", body, ...extra })).json.event_id;
const first = await say("one");
const second = await say("two");
await say("reply", { "m.relates_to": { rel_type: "m.thread", event_id: first } });
const { room_id: open } = (await call("POST", "/createRoom", { preset: "public_chat", name: "open", visibility: "public", room_alias_name: "open" })).json;
const none = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const R = `/rooms/${e(room)}`;

/** The fields, two levels deep; lists by their first entry. */
function shape(value, depth = 2) {
    if (Array.isArray(value)) return value.length && depth ? [shape(value[0], depth - 1)] : [];
    if (value && typeof value === "object") return depth ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, shape(value[key], depth - 1)])) : "object";
    return value === null ? "null" : typeof value;
}

const requests = {
    "who am I": ["GET", "/account/whoami"],
    "who am I, without a token": ["GET", "/account/whoami", undefined, null],
    "register: flows": ["POST", "/register", {}, null],
    "register: a taken name": ["POST", "/register", { username: "ann", password: "x", auth: { type: "m.login.dummy" } }, null],
    "register: a bad name": ["POST", "/register", { username: "Ann Ä", password: "correct horse battery staple", auth: { type: "m.login.dummy" } }, null],
    "available": ["GET", "/register/available?username=somebody", undefined, null],
    "not available": ["GET", "/register/available?username=ann", undefined, null],
    "available, bad": ["GET", "/register/available?username=%C3%84", undefined, null],
    "login without a type": ["POST", "/login", {}, null],
    "login without a user": ["POST", "/login", { type: "m.login.password", password: "x" }, null],
    "an unknown path": ["GET", "/no/such/endpoint"],
    "the wrong method": ["DELETE", "/account/whoami"],
    "an event": ["GET", `${R}/event/${e(first)}`],
    "an event that is not there": ["GET", `${R}/event/${e(none)}`],
    "an event, as a stranger": ["GET", `${R}/event/${e(first)}`, undefined, "eve"],
    "an event's surroundings": ["GET", `${R}/context/${e(second)}?limit=2`],
    "surroundings that are not there": ["GET", `${R}/context/${e(none)}`],
    "messages": ["GET", `${R}/messages?dir=b&limit=2`],
    "messages without a direction": ["GET", `${R}/messages`],
    "messages in a wrong direction": ["GET", `${R}/messages?dir=x`],
    "messages from a wrong place": ["GET", `${R}/messages?dir=b&from=nonsense`],
    "messages with a filter": ["GET", `${R}/messages?dir=b&filter=${e(JSON.stringify({ types: ["m.room.name"] }))}`],
    "messages with a broken filter": ["GET", `${R}/messages?dir=b&filter={`],
    "messages of nowhere": ["GET", "/rooms/!nowhere/messages?dir=b"],
    "members": ["GET", `${R}/members`],
    "members who left": ["GET", `${R}/members?membership=leave`],
    "members with a wrong filter": ["GET", `${R}/members?membership=nonsense`],
    "members, as a stranger": ["GET", `${R}/members`, undefined, "eve"],
    "joined members": ["GET", `${R}/joined_members`],
    "state": ["GET", `${R}/state`],
    "one state event": ["GET", `${R}/state/m.room.name`],
    "one state event whole": ["GET", `${R}/state/m.room.name?format=event`],
    "a state event that is not there": ["GET", `${R}/state/m.room.avatar`],
    "state, as a stranger": ["GET", `${R}/state`, undefined, "eve"],
    "state without a right": ["PUT", `${R}/state/m.room.name`, { name: "x" }, "bob"],
    "state that is no object": ["PUT", `${R}/state/m.room.topic`, [1]],
    "a message to nowhere": ["PUT", "/rooms/!nowhere:example.org/send/m.room.message/1", { body: "x" }],
    "a message that is no JSON": ["PUT", `${R}/send/m.room.message/2`, "{nonsense"],
    "a message with a float": ["PUT", `${R}/send/m.room.message/3`, { body: 1.5 }],
    "a message that is too large": ["PUT", `${R}/send/m.room.message/4`, { body: "x".repeat(70000) }],
    "a message, as a stranger": ["PUT", `${R}/send/m.room.message/5`, { body: "x" }, "eve"],
    "an encrypted room's message type": ["PUT", `${R}/send/m.room.encrypted/6`, { algorithm: "x" }],
    "joining by a wrong alias": ["POST", "/join/%23nothing:" + domain, {}],
    "joining by a broken name": ["POST", "/join/nonsense", {}],
    "joining nowhere": ["POST", "/join/!nowhere:" + domain, {}],
    "joining uninvited": ["POST", `/join/${e(room)}`, {}, "eve"],
    "inviting nobody": ["POST", `${R}/invite`, {}],
    "inviting a broken name": ["POST", `${R}/invite`, { user_id: "nonsense" }],
    "inviting who is there": ["POST", `${R}/invite`, { user_id: ids.bob }],
    "leaving where one is not": ["POST", `${R}/leave`, {}, "eve"],
    "forgetting where one is": ["POST", `${R}/forget`, {}],
    "knocking at a closed door": ["POST", `/knock/${e(room)}`, {}, "eve"],
    "creating with a wrong version": ["POST", "/createRoom", { room_version: "99" }],
    "creating with a wrong preset": ["POST", "/createRoom", { preset: "nonsense" }],
    "creating with a taken alias": ["POST", "/createRoom", { room_alias_name: "open" }],
    "creating with a broken invite": ["POST", "/createRoom", { invite: ["nonsense"] }],
    "an alias": ["GET", `/directory/room/${e("#open:" + domain)}`, undefined, null],
    "aliases of a room": ["GET", `/rooms/${e(open)}/aliases`],
    "public rooms": ["GET", "/publicRooms?limit=1", undefined, null],
    "visibility": ["GET", `/directory/list/room/${e(open)}`, undefined, null],
    "visibility of nowhere": ["GET", "/directory/list/room/!nowhere", undefined, null],
    "setting another's visibility": ["PUT", `/directory/list/room/${e(open)}`, { visibility: "private" }, "bob"],
    "relations": ["GET", `/_matrix/client/v1/rooms/${e(room)}/relations/${e(first)}`],
    "threads": ["GET", `/_matrix/client/v1/rooms/${e(room)}/threads`],
    "threads, as a stranger": ["GET", `/_matrix/client/v1/rooms/${e(room)}/threads`, undefined, "eve"],
    "by time, nothing": ["GET", `/_matrix/client/v1/rooms/${e(room)}/timestamp_to_event?ts=0&dir=b`],
    "hierarchy of a plain room": ["GET", `/_matrix/client/v1/rooms/${e(open)}/hierarchy`],
    "a receipt of a wrong kind": ["POST", `${R}/receipt/m.nonsense/${e(first)}`, {}],
    "a receipt for nothing": ["POST", `${R}/receipt/m.read/${e(none)}`, {}],
    "a receipt in a wrong thread": ["POST", `${R}/receipt/m.read/${e(second)}`, { thread_id: first }],
    "a receipt without a body": ["POST", `${R}/receipt/m.read/${e(first)}`],
    "read markers": ["POST", `${R}/read_markers`, { "m.fully_read": first, "m.read": first, "m.read.private": first }],
    "typing without saying": ["PUT", `${R}/typing/${e(ids.ann)}`, {}],
    "typing where one is not": ["PUT", `${R}/typing/${e(ids.eve)}`, { typing: true, timeout: 1000 }, "eve"],
    "presence": ["GET", `/presence/${e(ids.ann)}/status`],
    "presence that does not exist": ["PUT", `/presence/${e(ids.ann)}/status`, { presence: "nonsense" }],
    "another's presence": ["PUT", `/presence/${e(ids.ann)}/status`, { presence: "online" }, "bob"],
    "profile": ["GET", `/profile/${e(ids.ann)}`],
    "a profile field": ["GET", `/profile/${e(ids.ann)}/displayname`],
    "a profile field that is not there": ["GET", `/profile/${e(ids.ann)}/org.example.x`],
    "a name that is too long": ["PUT", `/profile/${e(ids.ann)}/displayname`, { displayname: "x".repeat(2000) }],
    "a name that is no text": ["PUT", `/profile/${e(ids.ann)}/displayname`, { displayname: 7 }],
    "push rules": ["GET", "/pushrules/"],
    "one push rule": ["GET", "/pushrules/global/underride/.m.rule.message"],
    "a push rule that is not there": ["GET", "/pushrules/global/underride/nothing"],
    "a push rule of a wrong kind": ["GET", "/pushrules/global/nonsense/x"],
    "whether it is enabled": ["GET", "/pushrules/global/underride/.m.rule.message/enabled"],
    "its actions": ["GET", "/pushrules/global/underride/.m.rule.message/actions"],
    "tags": ["GET", `/user/${e(ids.ann)}/rooms/${e(room)}/tags`],
    "another's tags": ["GET", `/user/${e(ids.ann)}/rooms/${e(room)}/tags`, undefined, "bob"],
    "a filter with nonsense": ["POST", `/user/${e(ids.ann)}/filter`, { room: { timeline: { limit: "x" } } }],
    "devices": ["GET", "/devices"],
    "a device that is not there": ["PUT", "/devices/NOSUCH", { display_name: "x" }],
    "key upload of another's device": ["POST", "/keys/upload", { device_keys: { user_id: ids.bob, device_id: "X", algorithms: [], keys: {}, signatures: {} } }],
    "key query for nobody": ["POST", "/keys/query", { device_keys: {} }],
    "key query without asking": ["POST", "/keys/query", {}],
    "key claim of nothing": ["POST", "/keys/claim", { one_time_keys: { [ids.bob]: { NOSUCH: "signed_curve25519" } } }],
    "key changes without a span": ["GET", "/keys/changes"],
    "no backup": ["GET", "/room_keys/version"],
    "a backup of a wrong kind": ["POST", "/room_keys/version", { algorithm: "m.megolm_backup.v1.curve25519-aes-sha2" }],
    "to device without messages": ["PUT", "/sendToDevice/m.x/1", {}],
    "sync with a wrong token": ["GET", "/sync?since=nonsense"],
    "sync with a wrong filter": ["GET", "/sync?filter={"],
    "sync with an unknown filter": ["GET", "/sync?filter=4711"],
    "sync with a wrong timeout": ["GET", "/sync?timeout=x"],
    "user directory": ["POST", "/user_directory/search", { search_term: "bob" }],
    "user directory without a term": ["POST", "/user_directory/search", {}],
    "capabilities": ["GET", "/capabilities", undefined, null],
    "media configuration": ["GET", "/_matrix/client/v1/media/config"],
    "media without a token": ["GET", "/_matrix/client/v1/media/config", undefined, null],
    "media that is not there": ["GET", `/_matrix/client/v1/media/download/${domain}/nothing`],
    "old media": ["GET", `/_matrix/media/v3/config`],
    "a thumbnail without a size": ["GET", `/_matrix/client/v1/media/thumbnail/${domain}/nothing`],
    "a media ID beforehand": ["POST", "/_matrix/media/v1/create", {}],
    "a URL preview": ["GET", "/_matrix/client/v1/media/preview_url"],
    "redaction without a right": ["PUT", `${R}/redact/${e(first)}/r1`, {}, "bob"],
    "redaction with nonsense": ["PUT", `${R}/redact/${e(second)}/r2`, { reason: 7 }],
    "an upgrade without a right": ["POST", `${R}/upgrade`, { new_version: "11" }, "bob"],
    "an upgrade to nothing": ["POST", `${R}/upgrade`, { new_version: "99" }],
    "a refresh without a token": ["POST", "/refresh", {}, null],
    "third-party protocols": ["GET", "/thirdparty/protocols"],
    "deactivation": ["POST", "/account/deactivate", {}],
    "a new password": ["POST", "/account/password", { new_password: "correct horse battery staple 2" }],
    "ending a device": ["DELETE", "/devices/NOSUCH", {}],
};

for (const [name, arguments_] of Object.entries(requests)) {
    await check(name, async () => {
        const answer = await call(...arguments_);
        if (answer.status === 200) return { status: 200, shape: shape(answer.json) };
        return { status: answer.status, errcode: answer.json?.errcode ?? null, more: Object.keys(answer.json ?? {}).filter((key) => !["errcode", "error"].includes(key)).sort() };
    });
}

done();
