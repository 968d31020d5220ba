// Encryption, as an application on top of the SDK has it: conversation, cross-signing, verification, backup, key exhaustion.

import { check, done, has, joined, normal, passwordAuth, PASSWORD, refusal, register, request, sdk, signIn, start, until, withPassword } from "./lib.mjs";
import { VerificationPhase, VerifierEvent, CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/index.js";

/** A client with keys. `secrets` holds the private keys of secret storage that it may use. */
async function device(name, label, secrets = {}) {
    // A closed gate keeps the device from uploading keys.
    const gate = { closed: false };
    const gated = async (url, options) => {
        if (String(url).includes("/keys/upload")) await until("an open gate", () => !gate.closed);
        return fetch(url, options);
    };
    const client = await signIn(name, label, {
        fetchFn: gated,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                for (const id of Object.keys(keys)) if (secrets[id]) return [id, secrets[id]];
                return null;
            },
            cacheSecretStorageKey: (id, _, key) => (secrets[id] = key),
        },
    });
    Object.assign(client, { secrets, gate });
    await client.initRustCrypto({ useIndexedDB: false });
    return start(client, { threadSupport: true });
}

const text = (body) => ({ msgtype: "m.text", body });

async function reads(client, roomId, body) {
    return until(`"${body}"`, () =>
        client
            .getRoom(roomId)
            ?.getLiveTimeline()
            .getEvents()
            .find((event) => !event.isDecryptionFailure() && event.getContent().body === body),
    );
}

const encrypted = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

await register("ann");
await register("bob");
await register("eve");
let ann = await device("ann", "laptop");
let bob = await device("bob", "phone");
const [annId, bobId] = [ann.getSafeUserId(), bob.getSafeUserId()];
let room;

async function otherDevices(client, userId) {
    const found = await client.getCrypto().getUserDeviceInfo([userId], true);
    return [...(found.get(userId)?.values() ?? [])];
}

await check("keys are uploaded", async () => {
    const count = await until("fifty keys", async () => {
        const answer = await request("POST", "/_matrix/client/v3/keys/upload", ann.getAccessToken(), {});
        return answer.json.one_time_key_counts?.signed_curve25519 === 50 && answer.json;
    });
    const query = await request("POST", "/_matrix/client/v3/keys/query", bob.getAccessToken(), { device_keys: { [annId]: [] } });
    const keys = Object.values(query.json.device_keys[annId])[0];
    return { count, query: Object.keys(query.json).sort(), keys: Object.keys(keys).sort(), unsigned: keys.unsigned };
});

await check("cross-signing is set up", async () => {
    for (const client of [ann, bob]) {
        let asked = 0;
        const auth = passwordAuth(client);
        await client.getCrypto().bootstrapCrossSigning({
            setupNewCrossSigning: true,
            authUploadDeviceSigningKeys: (makeRequest) => {
                asked++;
                return auth(makeRequest);
            },
        });
        await until("ready", () => client.getCrypto().isCrossSigningReady());
        if (asked !== 1) throw new Error(`asked ${asked} times`);
    }
    const status = await ann.getCrypto().getDeviceVerificationStatus(annId, ann.getDeviceId());
    const again = await refusal(request("POST", "/_matrix/client/v3/keys/device_signing/upload", ann.getAccessToken(), { master_key: { user_id: annId, usage: ["master"], keys: { "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } } }).then((answer) => (answer.status === 200 ? null : Promise.reject({ errcode: answer.json.errcode ?? "flows", httpStatus: answer.status }))));
    return { signed: status.signedByOwner, verified: status.isVerified(), again };
});

await check("a conversation is encrypted both ways", async () => {
    room = (await ann.createRoom({ preset: "private_chat", name: "secrets", invite: [bobId], initial_state: [encrypted] })).room_id;
    await until("the invite", () => bob.getRoom(room)?.getMyMembership() === "invite");
    await bob.joinRoom(room);
    await joined(ann, room, 2);
    await joined(bob, room, 2);
    const { event_id: id } = await ann.sendMessage(room, text("for your eyes only"));
    const event = await reads(bob, room, "for your eyes only");
    const raw = await ann.fetchRoomEvent(room, id);
    await bob.sendMessage(room, text("understood"));
    await reads(ann, room, "understood");
    await ann.sendMessage(room, { ...text("* for all eyes"), "m.new_content": text("for all eyes"), "m.relates_to": { rel_type: "m.replace", event_id: id } });
    await until("the edit", () => event.replacingEvent()?.getContent()["m.new_content"]?.body === "for all eyes");
    const info = await bob.getCrypto().getEncryptionInfoForEvent(event);
    return { type: raw.type, clear: event.getWireType(), shield: info.shieldColour, relation: Object.keys(raw.unsigned?.["m.relations"] ?? {}) };
});

await check("a device that was away when its one-time keys ran out gets a fallback key", async () => {
    // A new session to the device, from somebody whom it has not talked to.
    const away = await device("bob", "away");
    const id = away.getDeviceId();
    await until("keys", async () => (await request("POST", "/_matrix/client/v3/keys/upload", away.getAccessToken(), {})).json.one_time_key_counts?.signed_curve25519 === 50);
    await until("a fallback key", async () => (await request("GET", "/_matrix/client/v3/sync?timeout=0", away.getAccessToken())).json.device_unused_fallback_key_types?.includes("signed_curve25519"));
    away.gate.closed = true;
    const eve = await signIn("eve", "thief");
    const claimed = new Set();
    let fallback = 0;
    let key;
    for (let n = 0; n < 53; n++) {
        const answer = await eve.claimOneTimeKeys([[bobId, id]], "signed_curve25519");
        const keys = answer.one_time_keys[bobId][id];
        const [name] = Object.keys(keys);
        key = keys[name];
        if (key.fallback) fallback++;
        else claimed.add(name);
    }
    const raw = await request("GET", "/_matrix/client/v3/sync?timeout=0", away.getAccessToken());
    const after = { count: raw.json.device_one_time_keys_count.signed_curve25519, unused: raw.json.device_unused_fallback_key_types };
    await ann.getCrypto().forceDiscardSession(room);
    await otherDevices(ann, bobId);
    await ann.sendMessage(room, text("through the fallback key"));
    await reads(away, room, "through the fallback key");
    away.gate.closed = false;
    await until("new keys", async () => (await request("POST", "/_matrix/client/v3/keys/upload", away.getAccessToken(), {})).json.one_time_key_counts?.signed_curve25519 === 50);
    await away.logout(true);
    await eve.logout(true);
    return { claimed: claimed.size, fallback, after, key: Object.keys(key).sort() };
});

let recovery;
await check("secret storage and a key backup are made", async () => {
    const crypto = ann.getCrypto();
    recovery = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => recovery, setupNewSecretStorage: true, setupNewKeyBackup: true });
    await until("ready", () => crypto.isSecretStorageReady());
    const info = await until("a backup", () => crypto.getKeyBackupInfo());
    const uploaded = await until("all keys in the backup", async () => {
        const now = (await request("GET", "/_matrix/client/v3/room_keys/version", ann.getAccessToken())).json;
        const keys = await request("GET", `/_matrix/client/v3/room_keys/keys?version=${now.version}`, ann.getAccessToken());
        const sessions = Object.values(keys.json.rooms ?? {}).flatMap((entry) => Object.keys(entry.sessions)).length;
        return now.count > 0 && sessions === now.count && { count: now.count, keys: Object.keys(now).sort() };
    });
    const wrong = await request("PUT", `/_matrix/client/v3/room_keys/keys?version=999`, ann.getAccessToken(), { rooms: {} });
    const none = await request("GET", `/_matrix/client/v3/room_keys/version/999`, ann.getAccessToken());
    return { algorithm: info.algorithm, keys: uploaded.keys, wrong: [wrong.status, wrong.json.errcode], none: [none.status, none.json.errcode] };
});

await check("a new device reads the history with the recovery key", async () => {
    const tablet = await device("ann", "tablet");
    const id = await tablet.secretStorage.getDefaultKeyId();
    tablet.secrets[id] = decodeRecoveryKey(recovery.encodedPrivateKey);
    const crypto = tablet.getCrypto();
    await until("the own identity", () => crypto.userHasCrossSigningKeys(annId, true));
    await crypto.bootstrapCrossSigning({});
    await until("ready", () => crypto.isCrossSigningReady());
    await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    await crypto.checkKeyBackupAndEnable();
    const restored = await crypto.restoreKeyBackup();
    await until("the history", async () => {
        const events = tablet.getRoom(room).getLiveTimeline().getEvents();
        for (const event of events) if (event.isDecryptionFailure()) await tablet.decryptEventIfNeeded(event, { isRetry: true });
        return events.some((event) => event.getContent().body === "understood") && events.some((event) => event.getContent().body === "through the fallback key");
    });
    const seen = await until("the signature at the other device", async () => (await ann.getCrypto().getDeviceVerificationStatus(annId, tablet.getDeviceId()))?.signedByOwner);
    await tablet.logout(true);
    return { some: restored.total > 0, all: restored.total === restored.imported, seen };
});

/** Both sides of a verification by emoji, up to the end. */
async function bySas(request, incoming) {
    await until("requested", () => incoming.phase === VerificationPhase.Requested);
    await incoming.accept();
    await until("ready", () => request.phase === VerificationPhase.Ready);
    const verifier = await request.startVerification("m.sas.v1");
    const emoji = [];
    const confirm = (which) => new Promise((resolve) => which.on(VerifierEvent.ShowSas, async (sas) => {
        emoji.push(sas.sas.emoji.map(([symbol]) => symbol).join(""));
        resolve(sas);
    }));
    const mine = confirm(verifier);
    const finished = verifier.verify();
    const theirs = await until("started", () => incoming.verifier);
    const other = confirm(theirs);
    const ended = theirs.verify();
    const [a, b] = await Promise.all([mine, other]);
    await Promise.all([a.confirm(), b.confirm()]);
    await Promise.all([finished, ended]);
    await until("done", () => request.phase === VerificationPhase.Done && incoming.phase === VerificationPhase.Done);
    return emoji[0] === emoji[1];
}

await check("two devices of one person verify each other by emoji", async () => {
    const desk = await device("ann", "desk");
    const came = new Promise((resolve) => ann.once(CryptoEvent.VerificationRequestReceived, resolve));
    const request = await desk.getCrypto().requestOwnUserVerification();
    const same = await bySas(request, await came);
    await until("signed", async () => (await ann.getCrypto().getDeviceVerificationStatus(annId, desk.getDeviceId()))?.signedByOwner);
    await until("the private keys", () => desk.getCrypto().isCrossSigningReady());
    await until("the backup's key", () => desk.getCrypto().getSessionBackupPrivateKey());
    await desk.logout(true);
    return { same };
});

await check("two people verify each other in a room", async () => {
    const came = new Promise((resolve) => bob.once(CryptoEvent.VerificationRequestReceived, resolve));
    const request = await ann.getCrypto().requestVerificationDM(bobId, room);
    const same = await bySas(request, await came);
    await until("verified", async () => (await ann.getCrypto().getUserVerificationStatus(bobId)).isCrossSigningVerified());
    await until("verified back", async () => (await bob.getCrypto().getUserVerificationStatus(annId)).isCrossSigningVerified());
    return { same };
});

await check("device lists follow signing in and out", async () => {
    const before = (await otherDevices(ann, bobId)).length;
    const extra = await device("bob", "extra");
    await until("the new device", async () => (await ann.getCrypto().getUserDeviceInfo([bobId])).get(bobId).size === before + 1);
    await ann.sendMessage(room, text("to both devices"));
    await reads(extra, room, "to both devices");
    const id = extra.getDeviceId();
    await extra.logout(true);
    await until("without it", async () => !(await ann.getCrypto().getUserDeviceInfo([bobId])).get(bobId).has(id));
    await ann.sendMessage(room, text("to one again"));
    await reads(bob, room, "to one again");
    return { before };
});

await check("to-device messages reach one device or all", async () => {
    const [one, two] = [await signIn("bob", "one"), await signIn("bob", "two")];
    const first = async (client) => (await request("GET", "/_matrix/client/v3/sync?timeout=0", client.getAccessToken())).json.next_batch;
    const [since, other] = [await first(one), await first(two)];
    const send = (content, txn) => request("PUT", `/_matrix/client/v3/sendToDevice/org.example.ping/${txn}`, ann.getAccessToken(), { messages: { [bobId]: content } });
    await send({ [one.getDeviceId()]: { n: 1 } }, "one");
    await send({ "*": { n: 2 } }, "all");
    await send({ "*": { n: 2 } }, "all");
    await send({ NOSUCHDEVICE: { n: 3 } }, "none");
    const sync = (client, at) => request("GET", `/_matrix/client/v3/sync?timeout=0&since=${encodeURIComponent(at)}`, client.getAccessToken());
    const pings = (answer) => (answer.json.to_device?.events ?? []).filter((event) => event.type === "org.example.ping").map((event) => event.content.n);
    const got = await sync(one, since);
    const again = await sync(one, since);
    const after = await sync(one, got.json.next_batch);
    const back = await sync(one, since);
    const shape = Object.keys(got.json.to_device.events[0]).sort();
    const all = pings(await sync(two, other));
    for (const client of [one, two]) await client.logout(true);
    return { got: pings(got), again: pings(again), after: pings(after), back: pings(back), all, shape };
});

await check("dehydrated devices", async () => {
    const crypto = ann.getCrypto();
    if (!(await crypto.isDehydrationSupported())) return { supported: false };
    // It is stored, and others see it among the devices.
    await crypto.startDehydration();
    const stored = await until("the device", async () => {
        const answer = await request("GET", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device", ann.getAccessToken());
        return answer.status === 200 && answer.json;
    });
    const devices = await otherDevices(bob, annId);
    return { supported: true, keys: Object.keys(stored).sort(), listed: devices.some((device) => device.deviceId === stored.device_id && device.dehydrated) };
});

await check("the identity is reset", async () => {
    const crypto = bob.getCrypto();
    const before = await crypto.getCrossSigningKeyId();
    await crypto.resetEncryption(passwordAuth(bob));
    const after = await crypto.getCrossSigningKeyId();
    await until("the change is seen", async () => {
        const keys = await request("POST", "/_matrix/client/v3/keys/query", ann.getAccessToken(), { device_keys: { [bobId]: [] } });
        return Object.values(keys.json.master_keys[bobId].keys)[0] === after;
    });
    await until("no longer verified", async () => !(await ann.getCrypto().getUserVerificationStatus(bobId)).isCrossSigningVerified());
    return { changed: before !== after };
});

done();
