// Simplified sliding sync, by the SDK's own class and by hand.

import { check, done, has, joined, refusal, register, request, sdk, signIn, until, base, someone, texts } from "./lib.mjs";
import { SlidingSync, SlidingSyncEvent } from "matrix-js-sdk/lib/sliding-sync.js";

const ann = await someone("ann");
await register("bob");
const [annId] = [ann.getSafeUserId()];
const text = (body) => ({ msgtype: "m.text", body });
const rooms = [];
const bobId = annId.replace("@ann", "@bob");
for (let n = 0; n < 6; n++) {
    const { room_id: id } = await ann.createRoom({ preset: "public_chat", name: `room ${n}`, ...(n === 5 ? { is_direct: true } : {}) });
    rooms.push(id);
}
const invited = (await ann.createRoom({ preset: "private_chat", name: "invited" })).room_id;
const bob = await signIn("bob");
for (const id of rooms) {
    await bob.joinRoom(id);
    for (let n = 0; n < 3; n++) await ann.sendMessage(id, text(`line ${n}`));
}
await bob.setAccountDataRaw("m.direct", { [annId]: [rooms[5]] });
let sync;

await check("a client starts by sliding sync", async () => {
    const list = { ranges: [[0, 2]], timeline_limit: 2, required_state: [["m.room.join_rules", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"], ["m.room.name", ""]] };
    sync = new SlidingSync(base, new Map([["all", list]]), { timeline_limit: 10, required_state: [["*", "*"]] }, bob, 20_000);
    const told = new Map();
    sync.on(SlidingSyncEvent.RoomData, (id, data) => told.set(id, data));
    await bob.startClient({ slidingSync: sync, threadSupport: true });
    await until("the first rooms", () => told.size >= 3);
    const data = told.get(rooms[5]);
    return {
        told: [...told.keys()].map((id) => rooms.indexOf(id)).sort(),
        count: sync.getListData("all").joinedCount,
        room: { name: data.name, joined: data.joined_count, limited: data.limited, dm: data.is_dm ?? null, initial: data.initial, timeline: data.timeline.map((event) => event.content.body), state: data.required_state.map((event) => event.type).sort() },
        keys: Object.keys(data).sort(),
    };
});

await check("the list grows and a room is subscribed to", async () => {
    sync.setListRanges("all", [[0, 20]]);
    await until("all rooms", () => rooms.every((id) => bob.getRoom(id)));
    sync.modifyRoomSubscriptions(new Set([rooms[0]]));
    await until("a longer timeline", () => texts(bob.getRoom(rooms[0])).length === 3);
    return { topic: bob.getRoom(rooms[0]).getJoinRule() };
});

await check("a message, an edit, typing, a receipt and account data arrive", async () => {
    const { event_id: id } = await ann.sendMessage(rooms[1], text("news"));
    const event = await has(bob, rooms[1], id);
    await ann.sendTyping(rooms[1], true, 20_000);
    await until("typing", () => bob.getRoom(rooms[1]).getMember(annId)?.typing);
    await ann.sendMessage(rooms[1], { ...text("* new news"), "m.new_content": text("new news"), "m.relates_to": { rel_type: "m.replace", event_id: id } });
    await until("the edit", () => event.replacingEvent());
    await bob.setRoomTag(rooms[1], "m.favourite", { order: 0.1 });
    await until("the tag", () => bob.getRoom(rooms[1]).tags["m.favourite"]);
    await bob.setAccountDataRaw("org.example.x", { y: 1 });
    await until("account data", () => bob.getAccountData("org.example.x")?.getContent().y === 1);
    await bob.sendReadReceipt(event);
    await until("the receipt", () => ann.getRoom(rooms[1]).getEventReadUpTo(bobId) === id);
    return { first: event.getOriginalContent().body };
});

await check("an invite and a departure arrive", async () => {
    await ann.invite(invited, bobId);
    await until("the invite", () => bob.getRoom(invited)?.getMyMembership() === "invite");
    const name = bob.getRoom(invited).name;
    await bob.joinRoom(invited);
    await until("joined", () => bob.getRoom(invited)?.getMyMembership() === "join");
    await ann.kick(invited, bobId, "no reason");
    await until("gone", () => bob.getRoom(invited)?.getMyMembership() === "leave");
    return { name };
});

bob.stopClient();

// By hand, to see what exactly is told.
const ask = (body, query = "") => request("POST", `/_matrix/client/unstable/org.matrix.simplified_msc3575/sync${query}`, bob.getAccessToken(), body);
const brief = (answer) =>
    answer.status !== 200
        ? [answer.status, answer.json.errcode]
        : {
              lists: answer.json.lists,
              rooms: Object.fromEntries(
                  Object.entries(answer.json.rooms)
                      .map(([id, room]) => [rooms.includes(id) ? `room ${rooms.indexOf(id)}` : "other", { ...room, timeline: (room.timeline ?? room.timeline_events)?.map((event) => event.content.body ?? event.type), required_state: room.required_state?.map((event) => `${event.type}|${event.state_key}`).sort(), prev_batch: undefined, bump_stamp: undefined }])
                      .sort(([a], [b]) => (a < b ? -1 : 1)),
              ),
              extensions: Object.keys(answer.json.extensions ?? {}).sort(),
              keys: Object.keys(answer.json).sort(),
          };
const simple = (extra = {}) => ({ conn_id: "hand", lists: { all: { ranges: [[0, 1]], timeline_limit: 1, required_state: [["m.room.name", ""], ["m.room.member", "$LAZY"]], ...extra } } });

let pos;
await check("a first window by hand", async () => {
    const answer = await ask(simple());
    pos = answer.json.pos;
    return brief(answer);
});

await check("nothing new answers with nothing", async () => {
    const answer = await ask(simple(), `?pos=${pos}&timeout=0`);
    pos = answer.json.pos;
    return brief(answer);
});

await check("a message bumps its room into the window", async () => {
    await ann.sendMessage(rooms[0], text("bump"));
    const answer = await ask(simple(), `?pos=${pos}&timeout=5000`);
    const repeated = await ask(simple(), `?pos=${pos}&timeout=0`);
    pos = answer.json.pos;
    return { answer: brief(answer), repeated: brief(repeated) };
});

await check("a reaction does not bump", async () => {
    const last = await ann.createMessagesRequest(rooms[3], null, 1, "b");
    await ann.sendEvent(rooms[3], "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: last.chunk[0].event_id, key: "x" } });
    const answer = await ask(simple(), `?pos=${pos}&timeout=0`);
    return brief(answer);
});

await check("more state and a longer timeline are asked for later", async () => {
    const answer = await ask(simple({ timeline_limit: 3, required_state: [["m.room.name", ""], ["m.room.member", "$LAZY"], ["m.room.join_rules", ""]] }), `?pos=${pos}&timeout=0`);
    pos = answer.json.pos;
    return brief(answer);
});

await check("filters", async () => {
    const lists = {};
    for (const [name, filters] of Object.entries({ dm: { is_dm: true }, notDm: { is_dm: false }, encrypted: { is_encrypted: true }, invites: { is_invite: true }, spaces: { room_types: ["m.space"] }, plain: { not_room_types: ["m.space"] } })) {
        lists[name] = { ranges: [[0, 20]], timeline_limit: 0, required_state: [], filters };
    }
    const answer = await ask({ conn_id: "filters", lists });
    return { lists: answer.json.lists };
});

await check("a subscription to a room that one is not in", async () => {
    const closed = (await ann.createRoom({ preset: "private_chat" })).room_id;
    return brief(await ask({ conn_id: "outside", room_subscriptions: { [closed]: { timeline_limit: 1, required_state: [["*", "*"]] } } }));
});

await check("wrong requests", async () => {
    return {
        pos: brief(await ask(simple(), "?pos=nonsense")),
        range: brief(await ask({ lists: { all: { ranges: [[3, 1]], timeline_limit: 1, required_state: [] } } })),
        json: brief(await ask([])),
        limit: brief(await ask({ lists: { all: { ranges: [[0, 1]], required_state: [] } } })),
    };
});

await check("all extensions at first", async () => {
    const extensions = Object.fromEntries(["to_device", "e2ee", "account_data", "receipts", "typing"].map((name) => [name, { enabled: true }]));
    const answer = await ask({ ...simple(), conn_id: "extensions", extensions });
    const told = answer.json.extensions;
    return {
        names: Object.keys(told).sort(),
        toDevice: Object.keys(told.to_device).sort(),
        e2ee: Object.keys(told.e2ee).sort(),
        global: told.account_data.global.map((event) => event.type).sort(),
        rooms: Object.values(told.account_data.rooms ?? {}).filter((events) => events.length).length,
        receipts: Object.values(told.receipts?.rooms ?? {}).map((event) => Object.keys(event).sort()),
    };
});

done();
