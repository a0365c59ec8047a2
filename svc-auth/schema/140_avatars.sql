-- Pictures of people. The bytes are in the blob store, written by the gateway; here is what they are, and what is to be deleted.
ALTER TABLE person
	ADD avatar_blob text,     -- key in the store; NULL: avatar is a URL of somewhere else, or nothing
	ADD avatar_type text,
	ADD avatar_size bigint;

-- Keys that are to be deleted from the store once due: an upload that was begun (its row goes when something refers to it), and what
-- nothing refers to any more. A queue like mail_queue, read by exact key or by the thread that empties it.
CREATE TABLE blob_queue (
	blob text PRIMARY KEY,
	upload_of uuid,           -- who the begun upload is for; NULL: it is to be deleted whatever comes
	due_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0
);
CREATE INDEX blob_queue_due ON blob_queue (due_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON blob_queue TO {{schema}}_app;

-- Whoever changes the avatar, the old blob goes, in the same transaction.
CREATE FUNCTION person_avatar() RETURNS trigger
LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	IF NEW.avatar IS DISTINCT FROM OLD.avatar AND NEW.avatar_blob IS NOT DISTINCT FROM OLD.avatar_blob THEN
		NEW.avatar_blob := NULL;
		NEW.avatar_type := NULL;
		NEW.avatar_size := NULL;
	END IF;
	IF OLD.avatar_blob IS NOT NULL AND NEW.avatar_blob IS DISTINCT FROM OLD.avatar_blob THEN
		INSERT INTO blob_queue (blob, due_at) VALUES (OLD.avatar_blob, now()) ON CONFLICT (blob) DO NOTHING;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER person_avatar BEFORE UPDATE OF avatar, avatar_blob ON person FOR EACH ROW EXECUTE FUNCTION person_avatar();
