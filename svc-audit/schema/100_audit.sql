-- The audit log: one hash chain per tenant, append-only for everybody who can log in.

CREATE TABLE entry (
	tenant_id uuid NOT NULL,
	seq bigint NOT NULL CHECK (seq > 0),  -- dense in the tenant
	id uuid NOT NULL,                     -- of the event
	created_at timestamptz NOT NULL,      -- when it happened
	type text NOT NULL,
	action text NOT NULL,
	resource text NOT NULL,
	resource_id text,
	resource_seq bigint,
	resource_version bigint,
	user_id uuid,
	api_key_id text,
	ip text,
	user_agent text,
	request_id text,
	dialect text,
	changed text[] NOT NULL DEFAULT '{}',
	before json,                          -- json, not jsonb: the text must stay as it was hashed
	after json,
	hash text NOT NULL,
	previous_hash text NOT NULL,
	canonical bytea NOT NULL,             -- the bytes that were hashed
	search text GENERATED ALWAYS AS (lower(type || ' ' || resource || ' ' || coalesce(resource_id, '') || ' ' || coalesce(resource_seq::text, '')
		|| ' ' || coalesce(user_id::text, '') || ' ' || coalesce(request_id, ''))) STORED,
	PRIMARY KEY (tenant_id, seq),
	UNIQUE (tenant_id, id)
);
CREATE INDEX entry_time ON entry (tenant_id, created_at, id);
CREATE INDEX entry_resource ON entry (tenant_id, resource, resource_id, seq);
CREATE INDEX entry_user ON entry (tenant_id, user_id, seq);
CREATE INDEX entry_search ON entry USING gin (tenant_id, search extensions.gin_trgm_ops);

-- The end of each chain; its row lock makes one writer per tenant.
CREATE TABLE chain (
	tenant_id uuid PRIMARY KEY,
	seq bigint NOT NULL DEFAULT 0,
	hash text NOT NULL DEFAULT repeat('0', 64)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_all BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_going_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP <> 'UPDATE' OR NEW.seq <= OLD.seq OR NEW.tenant_id <> OLD.tenant_id THEN
		RAISE EXCEPTION 'the end of an audit chain only moves on' USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER moves_on BEFORE UPDATE OR DELETE ON chain FOR EACH ROW EXECUTE FUNCTION refuse_going_back();

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['entry', 'chain'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT ON entry TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE ON chain TO {{schema}}_app;

-- Search: trigram operators are not leakproof, so under RLS their index is never used. This function runs as a role that
-- bypasses RLS, filters by the caller's tenant itself and gives ids only; the caller joins them back under RLS.
CREATE FUNCTION entry_search(q text) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, extensions, pg_temp AS $$
	SELECT id FROM entry
	WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
		AND search LIKE '%' || replace(replace(replace(lower(q), '\', '\\'), '%', '\%'), '_', '\_') || '%'
$$;
GRANT SELECT ON entry TO {{schema}}_search;
REVOKE ALL ON FUNCTION entry_search(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION entry_search(text) TO {{schema}}_app;
ALTER FUNCTION entry_search(text) OWNER TO {{schema}}_search;
