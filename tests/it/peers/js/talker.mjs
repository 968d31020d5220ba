// One encrypted conversationalist, driven by lines of JSON: commands on standard input, what happens on standard output.
// talker.mjs BASE NAME

import readline from "node:readline";
import { createClient, describe, passwordAuth, register, signIn, start } from "./lib.mjs";

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const name = process.argv[3];
await register(name);
const client = await signIn(name, "js");
await client.initRustCrypto({ useIndexedDB: false });
const told = new Set();

function show(event) {
    if (event.getType() !== "m.room.message" || event.isDecryptionFailure() || event.getSender() === client.getUserId()) return;
    if (told.has(event.getId())) return;
    told.add(event.getId());
    tell({ message: { sender: event.getSender(), body: event.getContent().body, encrypted: event.isEncrypted() } });
}
client.on("Room.timeline", show);
client.on("Event.decrypted", show);
client.on("RoomMember.membership", async (_, member) => {
    if (member.membership === "invite" && member.userId === client.getUserId()) await client.joinRoom(member.roomId);
    tell({ member: { room: member.roomId, user: member.userId, membership: member.membership } });
});
await start(client);
await client.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: passwordAuth(client) });
tell({ ready: client.getUserId() });

for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
        if (command.create) {
            const initial = [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }];
            const { room_id: room } = await client.createRoom({ preset: "private_chat", name: command.create.name, invite: command.create.invite, initial_state: initial });
            tell({ created: room });
        } else if (command.send) {
            const { event_id: sent } = await client.sendMessage(command.send.room, { msgtype: "m.text", body: command.send.body });
            tell({ sent });
        }
    } catch (error) {
        tell({ failed: describe(error) });
    }
}
process.exit(0);
