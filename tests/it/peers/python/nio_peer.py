"""matrix-nio as a peer: `suite BASE` runs checks (one line of JSON each), `talk BASE NAME` converses by lines of JSON."""

import asyncio
import io
import json
import logging
import re
import sys
import tempfile
import time
import traceback

import aiohttp
import nio

logging.disable(logging.CRITICAL)
PASSWORD = "correct horse battery staple"
PATIENCE = 60
base = sys.argv[2]
domain = ""


def tell(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def normal(value):
    """What differs from server to server and from run to run, made the same."""
    text = json.dumps(value)
    if domain:
        text = text.replace(domain, "HS")
    text = re.sub(r"\$[A-Za-z0-9_-]{43}", "$EVENT", text)
    text = re.sub(r"![A-Za-z0-9_-]{43}", "!ROOM", text)
    text = re.sub(r"mxc://HS/[A-Za-z0-9_-]+", "mxc://HS/MEDIA", text)
    return json.loads(text)


async def check(name, work):
    started = time.monotonic()
    try:
        line = {"check": name, "facts": normal(await asyncio.wait_for(work(), PATIENCE) or {})}
    except Exception:
        line = {"check": name, "error": " | ".join(traceback.format_exc().strip().split("\n")[-4:])}
    line["ms"] = int((time.monotonic() - started) * 1000)
    tell(line)


async def register(name):
    global domain
    body = {"username": name, "password": PASSWORD, "inhibit_login": True}
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(f"{base}/_matrix/client/v3/register", json=body) as answer:
                found = await answer.json()
                if answer.status == 200:
                    domain = found["user_id"].split(":", 1)[1]
                    return found["user_id"]
                body["auth"] = {"type": "m.login.dummy", "session": found["session"]}
    raise RuntimeError(f"registration of {name}: {found}")


def fine(answer):
    if isinstance(answer, nio.ErrorResponse):
        raise RuntimeError(f"{type(answer).__name__}: {answer.status_code} {answer.message}")
    return answer


def refusal(answer):
    return answer.status_code if isinstance(answer, nio.ErrorResponse) else "accepted"


async def client_of(name, store):
    config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
    client = nio.AsyncClient(base, f"@{name}:{domain}", store_path=store, config=config)
    fine(await client.login(PASSWORD, device_name="nio"))
    return client


async def step(client, timeout=0, full_state=False):
    """One turn of the loop that an application runs."""
    fine(await client.sync(timeout=timeout, full_state=full_state))
    if client.should_upload_keys:
        fine(await client.keys_upload())
    if client.should_query_keys:
        fine(await client.keys_query())
    if client.should_claim_keys:
        fine(await client.keys_claim(client.get_users_for_key_claiming()))
    await client.send_to_device_messages()


async def until(client, condition):
    deadline = time.monotonic() + PATIENCE / 2
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("in vain")
        await step(client, timeout=200)


async def suite():
    await register("ann")
    await register("bob")
    with tempfile.TemporaryDirectory() as ann_store, tempfile.TemporaryDirectory() as bob_store:
        ann, bob = await client_of("ann", ann_store), await client_of("bob", bob_store)
        try:
            await checks(ann, bob)
        finally:
            await ann.close()
            await bob.close()
    tell({"done": True})


async def checks(ann, bob):
    heard = []
    bob.add_event_callback(lambda room, event: heard.append((event.body, bool(event.decrypted))), nio.RoomMessageText)
    ann_heard = []
    ann.add_event_callback(lambda room, event: ann_heard.append((event.body, bool(event.decrypted))), nio.RoomMessageText)
    rooms = {}

    async def signing_in():
        wrong = nio.AsyncClient(base, "ann")
        answer = refusal(await wrong.login("wrong"))
        await wrong.close()
        await step(ann, full_state=True)
        await step(bob, full_state=True)
        who = fine(await ann.whoami())
        return {"wrong": answer, "who": who.user_id, "uploaded": not ann.should_upload_keys}

    async def room_and_invite():
        rooms["plain"] = fine(await ann.room_create(name="plain", topic="tea", invite=[bob.user_id])).room_id
        await until(bob, lambda: rooms["plain"] in bob.invited_rooms)
        invited = bob.invited_rooms[rooms["plain"]]
        seen = {"name": invited.name, "inviter": invited.inviter}
        fine(await bob.join(rooms["plain"]))
        await until(bob, lambda: rooms["plain"] in bob.rooms)
        await until(ann, lambda: rooms["plain"] in ann.rooms and len(ann.rooms[rooms["plain"]].users) == 2)
        room = bob.rooms[rooms["plain"]]
        return {**seen, "topic": room.topic, "members": sorted(room.users), "joined": room.member_count, "version": room.room_version}

    async def messages():
        sent = fine(await ann.room_send(rooms["plain"], "m.room.message", {"msgtype": "m.text", "body": "hello"}))
        await until(bob, lambda: ("hello", False) in heard)
        edit = {"msgtype": "m.text", "body": "* hallo", "m.new_content": {"msgtype": "m.text", "body": "hallo"}, "m.relates_to": {"rel_type": "m.replace", "event_id": sent.event_id}}
        fine(await ann.room_send(rooms["plain"], "m.room.message", edit))
        fine(await bob.room_read_markers(rooms["plain"], sent.event_id, sent.event_id))
        fine(await bob.room_typing(rooms["plain"], True, 20000))
        await until(ann, lambda: ann.rooms[rooms["plain"]].typing_users == [bob.user_id])
        event = fine(await bob.room_get_event(rooms["plain"], sent.event_id))
        fine(await ann.room_redact(rooms["plain"], sent.event_id, "no"))
        gone = fine(await bob.room_get_event(rooms["plain"], sent.event_id))
        context = fine(await bob.room_context(rooms["plain"], sent.event_id, limit=2))
        state = fine(await bob.room_get_state(rooms["plain"]))
        return {"body": event.event.body, "gone": type(gone.event).__name__, "context": [len(context.events_before), len(context.events_after)], "state": len(state.events) > 5}

    async def paging():
        for number in range(25):
            fine(await ann.room_send(rooms["plain"], "m.room.message", {"msgtype": "m.text", "body": f"line {number}"}))
        start, lines = "", []
        for _ in range(20):
            page = fine(await bob.room_messages(rooms["plain"], start, limit=10))
            lines += [event.body for event in page.chunk if isinstance(event, nio.RoomMessageText)]
            if not page.end or not page.chunk:
                break
            start = page.end
        return {"lines": [line for line in lines if line.startswith("line")] == [f"line {number}" for number in reversed(range(25))]}

    async def media():
        data = bytes(range(256)) * 100
        answer, keys = await ann.upload(lambda *_: io.BytesIO(data), content_type="application/octet-stream", filename="all.bin", filesize=len(data))
        uri = fine(answer).content_uri
        back = fine(await bob.download(mxc=uri))
        answer, keys = await ann.upload(lambda *_: io.BytesIO(data), content_type="application/octet-stream", filename="all.bin", filesize=len(data), encrypt=True)
        secret = fine(await bob.download(mxc=fine(answer).content_uri))
        clear = nio.crypto.decrypt_attachment(secret.body, keys["key"]["k"], keys["hashes"]["sha256"], keys["iv"])
        return {"same": back.body == data, "name": back.filename, "type": back.content_type, "encrypted": secret.body != data and clear == data, "none": refusal(await bob.download(mxc=uri + "x"))}

    async def profile():
        fine(await ann.set_displayname("Ann N."))
        fine(await ann.set_avatar("mxc://example.org/a"))
        found = fine(await bob.get_profile(ann.user_id))
        await until(bob, lambda: bob.rooms[rooms["plain"]].users[ann.user_id].display_name == "Ann N.")
        return {"name": found.displayname, "avatar": found.avatar_url, "other": found.other_info}

    async def encrypted():
        initial = [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
        rooms["secret"] = fine(await ann.room_create(name="secret", invite=[bob.user_id], initial_state=initial)).room_id
        fine(await bob.join(rooms["secret"]))
        await until(bob, lambda: rooms["secret"] in bob.rooms and bob.rooms[rooms["secret"]].encrypted)
        await until(ann, lambda: rooms["secret"] in ann.rooms and len(ann.rooms[rooms["secret"]].users) == 2 and ann.rooms[rooms["secret"]].encrypted)
        fine(await ann.room_send(rooms["secret"], "m.room.message", {"msgtype": "m.text", "body": "whisper"}, ignore_unverified_devices=True))
        await until(bob, lambda: ("whisper", True) in heard)
        fine(await bob.room_send(rooms["secret"], "m.room.message", {"msgtype": "m.text", "body": "whisper back"}, ignore_unverified_devices=True))
        await until(ann, lambda: ("whisper back", True) in ann_heard)
        return {}

    async def going_on():
        token = bob.next_batch
        fine(await ann.room_send(rooms["plain"], "m.room.message", {"msgtype": "m.text", "body": "while away"}))
        bob.next_batch = token
        await until(bob, lambda: ("while away", False) in heard)
        await step(bob)
        return {"times": heard.count(("while away", False))}

    async def leaving():
        fine(await bob.room_leave(rooms["plain"]))
        await step(bob)
        fine(await bob.room_forget(rooms["plain"]))
        again = refusal(await bob.join(rooms["plain"]))
        devices = len(fine(await bob.devices()).devices)
        fine(await bob.logout())
        return {"again": again, "devices": devices, "after": refusal(await bob.whoami())}

    await check("nio: signing in", signing_in)
    await check("nio: a room and an invite", room_and_invite)
    await check("nio: messages", messages)
    await check("nio: paging", paging)
    await check("nio: media", media)
    await check("nio: profile", profile)
    await check("nio: an encrypted conversation", encrypted)
    await check("nio: a sync goes on where it was", going_on)
    await check("nio: leaving", leaving)


async def talk(name):
    await register(name)
    with tempfile.TemporaryDirectory() as store:
        client = await client_of(name, store)

        async def show(room, event):
            if event.sender != client.user_id:
                tell({"message": {"sender": event.sender, "body": event.body, "encrypted": bool(event.decrypted)}})

        async def accept(room, event):
            if event.membership == "invite" and event.state_key == client.user_id:
                fine(await client.join(room.room_id))

        client.add_event_callback(show, nio.RoomMessageText)
        client.add_event_callback(accept, nio.InviteMemberEvent)
        await step(client, full_state=True)
        loop = asyncio.create_task(client.sync_forever(timeout=10000))
        tell({"ready": client.user_id})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)["send"]
            content = {"msgtype": "m.text", "body": command["body"]}
            sent = await client.room_send(command["room"], "m.room.message", content, ignore_unverified_devices=True)
            tell({"failed": str(sent)} if isinstance(sent, nio.ErrorResponse) else {"sent": sent.event_id})
        loop.cancel()
        await client.close()


asyncio.run(suite() if sys.argv[1] == "suite" else talk(sys.argv[3]))
