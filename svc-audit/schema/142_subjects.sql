-- Personal fields of entries are encrypted with a key per subject; erasing a subject destroys the key. docs/adr/0020-erasure.md

-- wrapped: the key under the master key, which is a file. NULL: destroyed, for ever.
CREATE TABLE subject_key (
	tenant_id uuid NOT NULL,
	entity text NOT NULL,
	entity_id text NOT NULL,
	wrapped bytea,
	created_at timestamptz NOT NULL DEFAULT now(),
	erased_at timestamptz,
	PRIMARY KEY (tenant_id, entity, entity_id),
	CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);

-- What is to be erased, before anything is: an erasure that was interrupted is finished by the next one. Ids, never names.
CREATE TABLE erasure (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	subjects jsonb NOT NULL,  -- [{"entity": "lead", "id": "…"}]
	asked_by uuid,
	asked_at timestamptz NOT NULL DEFAULT now(),
	done_at timestamptz,
	PRIMARY KEY (tenant_id, id)
);
CREATE INDEX erasure_open ON erasure (tenant_id) WHERE done_at IS NULL;

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['subject_key', 'erasure'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON subject_key, erasure TO {{schema}}_app;

CREATE FUNCTION subject_stays_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.erased_at IS NOT NULL AND NEW.wrapped IS NOT NULL OR NEW.entity_id <> OLD.entity_id THEN
		RAISE EXCEPTION 'a destroyed key does not come back' USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stays_erased BEFORE UPDATE ON subject_key FOR EACH ROW EXECUTE FUNCTION subject_stays_erased();

-- Entries as they are read: with the key of their subject, while there is one.
CREATE VIEW entry_read WITH (security_invoker = true) AS
	SELECT e.*, k.wrapped::text AS subject_key FROM entry e
	LEFT JOIN subject_key k ON k.tenant_id = e.tenant_id AND k.entity = e.resource AND k.entity_id = e.resource_id;
GRANT SELECT ON entry_read TO {{schema}}_app;

INSERT INTO security_type VALUES
	('audit.privacy.exported', 'privacy', 'medium', 'What is known of a person was exported'),
	('audit.privacy.erased', 'privacy', 'medium', 'A person was erased')
ON CONFLICT DO NOTHING;
