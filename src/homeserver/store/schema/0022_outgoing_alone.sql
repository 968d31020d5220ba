-- Events for a server that is not in their room, such as the end of an invite: no later event of the room leads it to them.
ALTER TABLE outgoing_pdus ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
