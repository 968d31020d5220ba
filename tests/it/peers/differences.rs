//! Where our node and Synapse 1.163.2 differ, and why that is right. [`super::compare`] fails for any other difference.

/// A difference that is meant.
pub struct Difference {
    /// The suite that sees it.
    pub suite: &'static str,
    /// The check and the way into its facts; everything below is covered too. A `*` stands for one step of any name.
    pub path: &'static str,
    /// The reason, from the specification where it says something.
    #[expect(dead_code, reason = "for people")]
    pub why: &'static str,
    /// The difference may be there or not: it depends on the time that passes, or on how the peer is set up.
    pub may_be_gone: bool,
}

impl Difference {
    /// True when this explains what differs there.
    pub fn covers(&self, suite: &str, path: &str) -> bool {
        let mut steps = path.split('/');
        self.suite == suite && self.path.split('/').all(|known| steps.next().is_some_and(|step| known == "*" || known == step))
    }
}

const fn chat(path: &'static str, why: &'static str) -> Difference {
    Difference { suite: "chat", path, why, may_be_gone: false }
}

const fn sliding(path: &'static str, why: &'static str) -> Difference {
    Difference { suite: "sliding", path, why, may_be_gone: false }
}

const fn wire(path: &'static str, why: &'static str) -> Difference {
    Difference { suite: "wire", path, why, may_be_gone: false }
}

const fn by_the_clock(path: &'static str) -> Difference {
    let why = "C-S API, Presence: when somebody becomes `unavailable` is the server's to say; Synapse's clock is shorter than a slow run.";
    Difference { suite: "chat", path, why, may_be_gone: true }
}

/// All of them. "C-S API" is the Client-Server API of the specification.
pub const DIFFERENCES: &[Difference] = &[
    by_the_clock("presence/asked"),
    by_the_clock("presence/state"),
    chat("sign-in/type", "C-S API, POST /login: an unknown type is 400 `M_UNKNOWN`, \"Bad login type.\""),
    chat("sign-in/who", "C-S API, GET /account/whoami: `is_guest` is optional and false when it is missing."),
    chat("a private_chat room/state/m.room.power_levels/historical", "`historical` is of MSC2716, which was withdrawn."),
    chat("a trusted_private_chat room/state/m.room.power_levels/historical", "The same."),
    chat("a public_chat room/state/m.room.power_levels/historical", "The same."),
    chat("a private_chat room/state/m.room.topic/m.topic", "C-S API, m.room.topic: `mimetype` is `text/plain` when missing; ours says so."),
    chat("a trusted_private_chat room/state/m.room.topic/m.topic", "The same."),
    chat("a public_chat room/state/m.room.topic/m.topic", "The same."),
    chat(
        "a private_chat room/stripped",
        "C-S API, Stripped state: the listed events SHOULD be there, others may be. Ours adds the history visibility, so that an invited client knows what it will be able to read.",
    ),
    chat("a trusted_private_chat room/stripped", "The same."),
    chat("a public_chat room/stripped", "The same."),
    chat("knocking/stripped", "The same."),
    chat(
        "a public_chat room/state/m.room.guest_access",
        "C-S API, POST /createRoom: the preset `public_chat` sets guest access to `forbidden`.",
    ),
    chat("a public_chat room/types", "The same."),
    chat("a public_chat room/state/m.room.power_levels/events/m.call.invite", "Synapse's own: the specification has no such level."),
    chat("a redaction takes the text away/unknown", "Redacting what does not exist is 404 here; Synapse stores the redaction."),
    chat("relations are listed/unknown", "C-S API, GET /relations: 404 `M_NOT_FOUND` when the event is unknown."),
    chat("typing/others", "C-S API, Common error codes: `M_FORBIDDEN` comes with 403."),
    chat("media/html/type", "The type that was uploaded, as it was uploaded; Synapse adds a charset."),
    chat("profile/none", "C-S API, GET /profile: 404 `M_NOT_FOUND` for an unknown user."),
    chat("profile/others", "C-S API, Common error codes: `M_FORBIDDEN` comes with 403."),
    chat(
        "push rules decide what counts/seen",
        "MSC4210 (C-S API 1.17): a name in the text highlights no more, only `m.mentions` does; and C-S API, Push rules: `sender` rules come before `underride` rules, so a sender without actions is not counted (Synapse looks for a `user_id` that events no longer have).",
    ),
    chat(
        "push rules decide what counts/ids",
        "MSC4210 again: the three rules are gone; `.im.vector.jitsi` is Synapse's own; rules for polls (MSC3930) are ours; `postcontent` is of MSC4306, whose rules are there once the user follows a thread.",
    ),
    chat("push rules decide what counts/wrong", "C-S API, PUT and DELETE /pushrules: the code is left open; ours says what is wrong."),
    chat("directory/list/0/join_rule", "C-S API, POST /publicRooms: \"When not present, the room is assumed to be public.\""),
    chat("directory/summary/join_rule", "C-S API, GET /room_summary: the same."),
    chat("a space and its rooms/keys", "C-S API, GET /hierarchy: the same."),
    chat("turning down, throwing out, banning, forgetting/banned", "C-S API, POST /join: 403 `M_FORBIDDEN` for somebody who is banned."),
    chat("turning down, throwing out, banning, forgetting/invited", "C-S API, POST /invite: 403 `M_FORBIDDEN` when the invitee is banned."),
    chat("turning down, throwing out, banning, forgetting/again", "C-S API, POST /unban: who is not banned cannot be unbanned."),
    chat("devices/renamed/1", "C-S API, GET /devices/{deviceId}: there is no `user_id` in the answer."),
    chat("refresh tokens/used", "C-S API, POST /refresh: 401 `M_UNKNOWN_TOKEN` for a refresh token that is not valid."),
    chat("an account is closed/login", "C-S API, POST /login: 403 `M_USER_DEACTIVATED`."),
    chat(
        "a filter is stored/fields",
        "C-S API, Filtering: `event_fields` says what to include; ours keeps the empty `content` around a missing field.",
    ),
    chat("pushers/pushers/0", "C-S API, GET /pushers: `profile_tag` is optional; none was set."),
    chat(
        "own messages and unread counts/after",
        "C-S API, Push, Marking notifications as read: sending an event marks what came before it as read; Synapse waits for a receipt.",
    ),
    chat("own messages and unread counts/last", "The same."),
    chat("the list of notifications/entries", "C-S API, GET /notifications: `profile_tag` is optional; no rule of ours has one."),
    wire("who am I/shape/is_guest", "C-S API, GET /account/whoami: `is_guest` is optional and false when it is missing."),
    wire("*/more", "C-S API, User-interactive authentication: `completed` is optional; ours is there, and empty."),
    wire("available, bad/errcode", "C-S API, GET /register/available: `M_INVALID_USERNAME`."),
    wire("an event/shape", "`age` and `user_id` at the top are Synapse's own; events have them in `unsigned` and as `sender`."),
    wire("an event's surroundings/shape/event", "The same."),
    wire("state/shape", "The same."),
    wire("one state event whole/shape/unsigned/membership", "C-S API 1.11, Room events: `unsigned.membership` SHOULD be there."),
    wire("messages without a direction", "C-S API, GET /messages: `dir` is required."),
    wire("messages with a filter/shape/end", "C-S API, GET /messages: no `end` when there is no more."),
    wire("public rooms", "C-S API, GET /publicRooms: requires no authentication."),
    wire("a message that is too large", "C-S API, Size limits: 413 `M_TOO_LARGE`."),
    wire("a receipt for nothing", "Ours has no receipts for events that the room does not have."),
    wire("a receipt without a body", "C-S API, POST /receipt: the body has no required fields; ours takes none as empty."),
    wire("typing without saying", "C-S API, PUT /typing: `typing` is required."),
    wire("presence/shape/last_active_ago", "C-S API, GET /presence: optional; nobody was active."),
    wire("a push rule of a wrong kind", "C-S API, GET /pushrules/{kind}/{ruleId}: 404 `M_NOT_FOUND`."),
    wire("push rules/shape/global/postcontent", "Of MSC4306: there once the user follows a thread."),
    wire("a filter with nonsense", "A body of the wrong form is 400."),
    wire("a backup of a wrong kind", "C-S API, POST /room_keys/version: `auth_data` is required."),
    wire("redaction with nonsense", "C-S API, PUT /redact: `reason` is a string."),
    wire("login without a type/errcode", "C-S API, Common error codes: `M_MISSING_PARAM`."),
    wire("login without a user/errcode", "The same."),
    wire("user directory without a term/errcode", "The same."),
    wire("key query without asking/errcode", "The same."),
    wire("inviting nobody/errcode", "`M_BAD_JSON` for a body that does not have the form of any invite."),
    wire("inviting a broken name/errcode", "C-S API, Common error codes: `M_BAD_JSON`: \"malformed or missing in some way\"."),
    wire("creating with a broken invite/errcode", "The same."),
    wire("to device without messages/errcode", "The same."),
    wire("a name that is no text/errcode", "The same."),
    wire("a message with a float/errcode", "The same."),
    wire(
        "messages from a wrong place/errcode",
        "C-S API, Common error codes: `M_INVALID_PARAM` for a parameter with a wrong value; Synapse has `M_UNKNOWN`.",
    ),
    wire("messages with a broken filter/errcode", "The same; the filter is a parameter."),
    wire("sync with a wrong filter/errcode", "The same."),
    wire("sync with a wrong token/errcode", "The same."),
    wire("joining by a broken name/errcode", "The same."),
    wire("a receipt of a wrong kind/errcode", "The same."),
    wire("presence that does not exist/errcode", "The same."),
    wire("creating with a wrong preset/errcode", "The same."),
    wire("joining nowhere/errcode", "404 says that it is not there: `M_NOT_FOUND`."),
    wire("a name that is too long/errcode", "C-S API, PUT /profile: `M_PROFILE_TOO_LARGE`."),
    Difference { suite: "wire", path: "a URL preview", why: "Synapse serves none unless told to.", may_be_gone: true },
    Difference {
        suite: "crypto",
        path: "dehydrated devices",
        why: "MSC3814: Synapse serves it only where it is switched on.",
        may_be_gone: true,
    },
    sliding("*/lists/*/ops", "MSC4186 has no `ops`: they are of MSC3575."),
    sliding("*/answer/lists/*/ops", "The same."),
    sliding("*/repeated/lists/*/ops", "The same."),
    sliding("*/rooms/*/notification_count", "Synapse always answers 0; ours counts, as MSC4186 had it while these were in it."),
    sliding("*/answer/rooms/*/notification_count", "The same."),
    sliding("*/repeated/rooms/*/notification_count", "The same."),
    sliding("wrong requests/pos", "MSC4186: `M_UNKNOWN_POS` for a position that the server did not issue."),
    sliding("wrong requests/range", "A range that ends before it begins is refused; Synapse finds nothing in it."),
    sliding("a subscription to a room that one is not in", "MSC4186: `lists` is required in the answer."),
    sliding("all extensions at first/names", "An extension that has nothing to tell is left out; its fields are optional."),
];
