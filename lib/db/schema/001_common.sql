-- Tables that every service's schema has. Run with search_path = the service's schema; {{schema}} is its name.

-- Numbers for people (seq): leased in blocks per tenant and kind, so that writes of a tenant do not wait for each other.
CREATE TABLE seq_block (
	tenant_id uuid NOT NULL,
	kind text NOT NULL,
	next bigint NOT NULL DEFAULT 1,
	PRIMARY KEY (tenant_id, kind)
);

-- What happened, in the transaction that did it. Ordered by (xid, id) below pg_snapshot_xmin: never by id alone.
CREATE TABLE outbox (
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id bigint GENERATED ALWAYS AS IDENTITY,
	event_id uuid NOT NULL,
	tenant_id uuid NOT NULL,
	type text NOT NULL,
	entity text,
	entity_id uuid,
	entity_seq bigint,
	version bigint,
	before jsonb,             -- the whole row before, NULL on create
	after jsonb,              -- the whole row after, NULL on delete
	user_id uuid,
	api_key_id uuid,
	request_id text,
	traceparent text,
	dialect text,
	client_ip text,
	user_agent text,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (xid, id)
);

-- How far the relay has delivered.
CREATE TABLE outbox_position (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	xid xid8 NOT NULL,
	id bigint NOT NULL,
	stream_seq bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO outbox_position (xid, id) VALUES ('0', 0);

-- What a consumer has done, in the transaction that did it.
CREATE TABLE inbox (
	consumer text NOT NULL,
	event_id uuid NOT NULL,
	done_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (consumer, event_id)
);

-- Idempotency keys, in the transaction of the effect.
CREATE TABLE idempotency (
	tenant_id uuid NOT NULL,
	user_id uuid NOT NULL,
	dialect text NOT NULL,
	rpc text NOT NULL,
	key text NOT NULL,
	request_hash bytea NOT NULL,
	reply bytea,              -- NULL only inside the transaction that runs it
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (tenant_id, user_id, dialect, rpc, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['seq_block', 'outbox', 'idempotency'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['outbox', 'idempotency'] LOOP
		EXECUTE format('CREATE POLICY relay ON %I TO {{schema}}_relay USING (true)', t);
	END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON seq_block TO {{schema}}_app;
GRANT INSERT ON outbox TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE ON idempotency TO {{schema}}_app;
GRANT SELECT, INSERT ON inbox TO {{schema}}_app;
GRANT SELECT, DELETE ON outbox TO {{schema}}_relay;
GRANT SELECT, DELETE ON idempotency TO {{schema}}_relay;
GRANT SELECT, UPDATE ON outbox_position TO {{schema}}_relay;
GRANT SELECT, DELETE ON inbox TO {{schema}}_relay;
