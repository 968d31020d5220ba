// What the suites share: signing in, waiting for a condition, and telling what was seen in a form that two servers can be
// compared by. One line of JSON per check goes to standard output; everything else goes to standard error.

// The SDK asks for Node 22, which has these; Debian has older ones.
globalThis.crypto ??= (await import("node:crypto")).webcrypto;
Promise.withResolvers ??= function () {
    let resolve, reject;
    const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
    return { promise, resolve, reject };
};
globalThis.CustomEvent ??= class CustomEvent extends Event {};

const sdk = await import("matrix-js-sdk/lib/index.js");
export const { createClient } = sdk;
export { sdk };

export const base = process.argv[2];
export const PASSWORD = "correct horse battery staple";
const PATIENCE = 60_000;

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };
sdk.logger?.setLevel?.("silent");
if (!process.env.PEER_VERBOSE) for (const name of ["log", "info", "debug", "warn", "error", "trace"]) console[name] = () => {};

// A client that is stopped while it works on an event says so where nobody can catch it.
for (const kind of ["uncaughtException", "unhandledRejection"]) {
    process.on(kind, (error) => {
        if (!["AbortError", "ClientStoppedError"].includes(error?.name) && error?.constructor?.name !== "ClientStoppedError") {
            process.stdout.write(`${JSON.stringify({ check: `nothing goes wrong unseen`, error: describe(error) })}\n`);
        }
    });
}

// A suite that hangs says so instead of holding everybody up.
setTimeout(() => {
    process.stdout.write(`${JSON.stringify({ check: "the suite ends", error: `not within ${PATIENCE * 20} ms` })}\n`, () => process.exit(1));
}, PATIENCE * 20).unref();

let domain = "";
const running = new Set();

/** IDs and names that differ from server to server and from run to run, made the same. */
export function normal(value) {
    if (value === undefined) return null;
    let text = JSON.stringify(value);
    if (domain) text = text.replaceAll(domain, "HS");
    text = text
        .replace(/\$[A-Za-z0-9_-]{43}/g, "$EVENT")
        .replace(/![A-Za-z0-9_-]{43}/g, "!ROOM")
        .replace(/![A-Za-z0-9_-]+:HS/g, "!ROOM")
        .replace(/mxc:\/\/HS\/[A-Za-z0-9_-]+/g, "mxc://HS/MEDIA");
    return JSON.parse(text);
}

/** Runs one check. What it returns, or the error that it ends with, is what the servers are compared by. */
export async function check(name, work) {
    const started = Date.now();
    let line;
    try {
        let timer;
        const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("took too long")), PATIENCE)));
        const facts = await Promise.race([work(), late]).finally(() => clearTimeout(timer));
        line = { check: name, facts: normal(facts ?? {}) };
    } catch (error) {
        line = { check: name, error: describe(error) };
    }
    line.ms = Date.now() - started;
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

export function describe(error) {
    if (error?.errcode) return `${error.httpStatus} ${error.errcode}: ${error.data?.error ?? ""}`;
    return String(error?.stack ?? error).split("\n").slice(0, 6).join(" | ");
}

/** What a request was refused with, as a fact. */
export async function refusal(promise) {
    try {
        await promise;
        return "accepted";
    } catch (error) {
        if (error?.errcode) return `${error.httpStatus} ${error.errcode}`;
        throw error;
    }
}

/** Waits until the condition holds; asks again whenever one of the clients has news. */
export async function until(what, condition) {
    const deadline = Date.now() + PATIENCE * 0.9;
    for (;;) {
        const found = await condition();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 30));
    }
}

/** A request outside the SDK. */
export async function request(method, path, token, body, raw) {
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (body !== undefined && !raw) headers["content-type"] = "application/json";
    const answer = await fetch(base + path, { method, headers, body: body === undefined || raw || typeof body === "string" ? body : JSON.stringify(body) });
    const text = await answer.text();
    let json = null;
    try {
        json = JSON.parse(text);
    } catch {
        // Not every answer is JSON.
    }
    return { status: answer.status, json, text, headers: answer.headers };
}

/** Registers an account without signing in. */
export async function register(name) {
    const body = { username: name, password: PASSWORD, inhibit_login: true };
    let answer = await request("POST", "/_matrix/client/v3/register", null, body);
    if (answer.status === 401) {
        body.auth = { type: "m.login.dummy", session: answer.json.session };
        answer = await request("POST", "/_matrix/client/v3/register", null, body);
    }
    if (answer.status !== 200) throw new Error(`registration of ${name}: ${answer.status} ${answer.text}`);
    domain = answer.json.user_id.slice(answer.json.user_id.indexOf(":") + 1);
    return answer.json.user_id;
}

/** A signed-in client that does not sync yet. */
export async function signIn(name, device = "js", extra = {}) {
    const anonymous = createClient({ baseUrl: base, logger: quiet });
    const answer = await anonymous.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: name },
        password: PASSWORD,
        initial_device_display_name: device,
    });
    const client = createClient({
        baseUrl: base,
        userId: answer.user_id,
        deviceId: answer.device_id,
        accessToken: answer.access_token,
        timelineSupport: true,
        logger: quiet,
        ...extra,
    });
    running.add(client);
    return client;
}

/** Starts syncing; resolves when the first answer is in. */
export async function start(client, options = {}) {
    await client.startClient({ initialSyncLimit: 20, threadSupport: true, ...options });
    await until("the first sync", () => client.isInitialSyncComplete() || ["PREPARED", "SYNCING"].includes(client.getSyncState()));
    return client;
}

export async function someone(name, options = {}) {
    await register(name);
    return start(await signIn(name), options);
}

/** The password stage of user-interactive authentication, with the session that the server opened. */
export function passwordAuth(client) {
    return async (makeRequest) => {
        try {
            return await makeRequest(null);
        } catch (error) {
            if (error.httpStatus !== 401 || !error.data?.flows) throw error;
            return makeRequest({
                type: "m.login.password",
                identifier: { type: "m.id.user", user: client.getUserId() },
                password: PASSWORD,
                session: error.data.session,
            });
        }
    };
}

/** Runs a request that wants the password stage. */
export function withPassword(client, makeRequest) {
    return passwordAuth(client)((auth) => makeRequest(auth ?? undefined));
}

export async function joined(client, roomId, count) {
    return until(`${count} members`, () => {
        const room = client.getRoom(roomId);
        return room && room.getMyMembership() === "join" && (!count || room.getJoinedMemberCount() === count) && room;
    });
}

/** Everything of the main timeline that has been loaded. */
export function texts(room) {
    return room.getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
}

export async function has(client, roomId, eventId) {
    return until(`event ${eventId}`, () => client.getRoom(roomId)?.findEventById(eventId));
}

export function done() {
    for (const client of running) client.stopClient();
    process.stdout.write(`${JSON.stringify({ done: true })}\n`, () => process.exit(0));
}
