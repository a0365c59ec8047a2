-- Notes about accounts, and the timeline that consume.c makes from the events of all services.
CREATE TABLE note (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	deleted_at timestamptz,
	account_id uuid,
	text text NOT NULL,
	kind text,
	pinned boolean NOT NULL DEFAULT false,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT note_seq_unique UNIQUE (tenant_id, seq)
);
CREATE INDEX note_account ON note (tenant_id, account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX note_list ON note (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE timeline_entry (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint GENERATED ALWAYS AS IDENTITY,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	account_id uuid NOT NULL,
	type text NOT NULL,
	entity text,
	entity_id uuid,
	title text,
	PRIMARY KEY (tenant_id, id)
);
CREATE INDEX timeline_entry_account ON timeline_entry (tenant_id, account_id, created_at DESC, id DESC);
CREATE INDEX timeline_entry_entity ON timeline_entry (tenant_id, entity_id, created_at DESC);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['note', 'timeline_entry'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
		EXECUTE format('GRANT SELECT, INSERT ON %I TO {{schema}}_app', t);
	END LOOP;
	GRANT UPDATE ON note TO {{schema}}_app;
END $$;
