-- Settings of a tenant: those that the product knows, with their type and default, and any others that a tenant keeps.

-- What the product knows. seq is the setting's number in every tenant; a tenant's own begin at 101.
CREATE TABLE known_setting (
	key text PRIMARY KEY,
	seq bigint NOT NULL UNIQUE CHECK (seq BETWEEN 1 AND 100),
	type text NOT NULL CHECK (type IN ('string', 'integer', 'decimal', 'boolean', 'json')),
	value jsonb NOT NULL,                                     -- while the tenant has set no other
	description text NOT NULL
);
INSERT INTO known_setting (key, seq, type, value, description) VALUES
	('security.mfa_required', 1, 'boolean', 'false', 'Members without a second factor may do nothing but set one up');

-- value: NULL when the setting is secret; then sealed holds it (AES-256-GCM, tenant and key as associated data) and nothing shows it.
CREATE TABLE setting (
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	key text NOT NULL,
	id uuid NOT NULL UNIQUE,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	type text NOT NULL CHECK (type IN ('string', 'integer', 'decimal', 'boolean', 'json')),
	value jsonb,
	sealed bytea,
	key_id text,                                              -- of the key-encryption key
	secret boolean NOT NULL DEFAULT false,
	description text,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (tenant_id, key),
	UNIQUE (tenant_id, seq),
	CHECK ((value IS NULL) = secret AND (sealed IS NOT NULL) = secret AND (key_id IS NOT NULL) = secret)
);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['setting'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON setting TO {{schema}}_app;
GRANT SELECT ON known_setting TO {{schema}}_app;

-- Every setting of the current tenant, with the defaults of those it has not set; never anything sealed.
CREATE VIEW setting_view WITH (security_invoker = true) AS
SELECT s.tenant_id, s.id, s.seq, s.version, s.key, s.type, s.value, s.secret, coalesce(k.description, s.description) AS description,
       k.key IS NOT NULL AS known, s.created_at, s.updated_at
FROM setting s LEFT JOIN known_setting k ON k.key = s.key
UNION ALL
SELECT t.id, md5(t.id::text || '/' || k.key)::uuid, k.seq, 1, k.key, k.type, k.value, false, k.description, true, t.created_at, t.created_at
FROM known_setting k CROSS JOIN tenant t
WHERE t.id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
  AND NOT EXISTS (SELECT FROM setting s WHERE s.tenant_id = t.id AND s.key = k.key);
GRANT SELECT ON setting_view TO {{schema}}_app;

GRANT SELECT ON setting TO {{schema}}_search;

-- The names of this person's tenants that ask for a second factor.
CREATE FUNCTION mfa_required_by(person uuid) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	SELECT t.name FROM membership m JOIN tenant t ON t.id = m.tenant_id JOIN setting s ON s.tenant_id = m.tenant_id
	WHERE m.user_id = person AND m.status = 'active' AND t.status = 'active' AND s.key = 'security.mfa_required' AND s.value = 'true'::jsonb
$$;

DO $$
BEGIN
	EXECUTE 'ALTER FUNCTION mfa_required_by(uuid) OWNER TO {{schema}}_search';
	EXECUTE 'REVOKE ALL ON FUNCTION mfa_required_by(uuid) FROM PUBLIC';
	EXECUTE 'GRANT EXECUTE ON FUNCTION mfa_required_by(uuid) TO {{schema}}_app';
END $$;
