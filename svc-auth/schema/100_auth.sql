-- Tenants, people, memberships, sessions, keys. Run with search_path = auth.
--
-- Two kinds of tables. What belongs to a tenant (tenant, membership, role, api_key) is behind row-level security. What has
-- to be read before a tenant is known (person and credential by e-mail, session and refresh_token by hash, signing_key,
-- change) has no tenant wall to stand behind: those tables are granted to auth_app and to nobody else, hold no data of a
-- tenant beyond its id, and are read by exact key only. The few questions that must cross tenants ("which tenants is this
-- person a member of?") are the SECURITY DEFINER functions at the end, each for one exact key.

-- 1 is the first tenant of the installation.
CREATE SEQUENCE tenant_seq;

CREATE TABLE tenant (
	id uuid PRIMARY KEY,
	tenant_id uuid NOT NULL GENERATED ALWAYS AS (id) STORED,  -- the wall's column, as in every tenant table
	seq bigint NOT NULL UNIQUE DEFAULT nextval('tenant_seq'),
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	deleted_at timestamptz,                                   -- kept 30 days, then purged
	name text NOT NULL,
	domain text,
	settings jsonb,
	size text,
	industry text,
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted'))
);

-- One row per human being, whatever the number of tenants.
CREATE TABLE person (
	id uuid PRIMARY KEY,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	email text NOT NULL,
	display text,
	given text,
	family text,
	avatar text,
	preferences jsonb
);
CREATE UNIQUE INDEX person_email ON person (lower(email));

-- Apart from person, so that no to_jsonb(person) and no view can carry a hash away.
CREATE TABLE credential (
	person_id uuid PRIMARY KEY REFERENCES person ON DELETE CASCADE,
	password_hash text NOT NULL,
	changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE membership (
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	user_id uuid NOT NULL REFERENCES person,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	role text NOT NULL,
	granted text[] NOT NULL DEFAULT '{}',                     -- permissions beyond the role
	denied text[] NOT NULL DEFAULT '{}',                      -- permissions of the role that this member lacks
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
	last_login_at timestamptz,
	PRIMARY KEY (tenant_id, user_id),
	UNIQUE (tenant_id, seq)
);
CREATE INDEX membership_user ON membership (user_id);

-- Roles that a tenant has made. admin, manager, agent and user are built in (roles.c).
CREATE TABLE role (
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	name text NOT NULL,
	title text,
	permissions text[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (tenant_id, name)
);

-- A login: the family of refresh tokens that descend from it.
CREATE TABLE session (
	id uuid PRIMARY KEY,
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	user_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
	dialect text,
	refresh_ttl_s integer NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,                          -- absolute: no refresh goes beyond
	revoked_at timestamptz,
	revoked_why text
);
CREATE INDEX session_tenant ON session (tenant_id) WHERE revoked_at IS NULL;
CREATE INDEX session_expiry ON session (expires_at);

-- The successor of a rotated token is HMAC(key, token): parallel refreshes find the same one, nothing secret is stored.
CREATE TABLE refresh_token (
	token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
	session_id uuid NOT NULL REFERENCES session ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	rotated_at timestamptz
);
CREATE INDEX refresh_token_session ON refresh_token (session_id);

-- private_key: nonce, ciphertext and tag of AES-256-GCM over the PKCS#8 DER, with the kid as associated data.
CREATE TABLE signing_key (
	kid text PRIMARY KEY,
	state text NOT NULL CHECK (state IN ('next', 'current', 'old')),
	modulus text NOT NULL,
	exponent text NOT NULL,
	private_key bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	retired_at timestamptz
);
CREATE UNIQUE INDEX signing_key_one ON signing_key (state) WHERE state IN ('next', 'current');

CREATE TABLE api_key (
	id uuid PRIMARY KEY,
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	user_id uuid NOT NULL REFERENCES person,                  -- its creator: a key may never do more than they may
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	name text NOT NULL,
	scope text[] NOT NULL DEFAULT '{}',
	key_hash bytea NOT NULL UNIQUE CHECK (length(key_hash) = 32),
	expires_at timestamptz,
	last_used_at timestamptz,
	revoked_at timestamptz,
	UNIQUE (tenant_id, seq)
);

-- What gateways must know, newest state per object only, kept 25 hours (no access token lives longer than 24). Readers ask
-- for xid >= the snapshot's xmin they saw last, so a slow transaction's row is seen twice rather than never.
CREATE TABLE change (
	kind text NOT NULL,
	id text NOT NULL,
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	at timestamptz NOT NULL DEFAULT now(),
	epoch_us bigint,
	permissions_low bigint,
	permissions_high bigint,
	role text,
	revoked boolean NOT NULL DEFAULT false,
	PRIMARY KEY (kind, id)
);
CREATE INDEX change_xid ON change (xid);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tenant', 'membership', 'role', 'api_key'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON tenant, membership, role, api_key, person, credential, session, refresh_token TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON signing_key, change TO {{schema}}_app;
GRANT USAGE ON SEQUENCE tenant_seq TO {{schema}}_app;

-- A member of the current tenant as the contract's User. Row-level security of membership is the wall.
CREATE VIEW user_view WITH (security_invoker = true) AS
SELECT m.tenant_id, p.id, m.seq, p.version + m.version - 1 AS version, m.created_at, greatest(m.updated_at, p.updated_at) AS updated_at,
       p.email, p.display, p.given, p.family, p.avatar, p.preferences, m.role, m.status, m.last_login_at,
       t.seq AS tenant_seq, t.name AS tenant_name
FROM membership m JOIN person p ON p.id = m.user_id JOIN tenant t ON t.id = m.tenant_id;
GRANT SELECT ON user_view TO {{schema}}_app;

-- Everything below runs as the role that bypasses row-level security; each function answers for one exact key.
GRANT SELECT ON tenant, membership, role, api_key TO {{schema}}_search;
GRANT SELECT, DELETE ON session, refresh_token, tenant, change TO {{schema}}_search;

-- Every membership of one person, with what is needed to decide whether they may enter and what they may do.
CREATE FUNCTION memberships_of(person uuid)
RETURNS TABLE (tenant_id uuid, tenant_seq bigint, tenant_version bigint, tenant_created_at timestamptz, tenant_updated_at timestamptz,
	name text, domain text, settings jsonb, size text, industry text, tenant_status text,
	user_seq bigint, role text, role_permissions text[], granted text[], denied text[], status text, last_login_at timestamptz, joined_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp ROWS 2 AS $$
	SELECT t.id, t.seq, t.version, t.created_at, t.updated_at, t.name, t.domain, t.settings, t.size, t.industry, t.status,
	       m.seq, m.role, r.permissions, m.granted, m.denied, m.status, m.last_login_at, m.created_at
	FROM membership m JOIN tenant t ON t.id = m.tenant_id LEFT JOIN role r ON r.tenant_id = m.tenant_id AND r.name = m.role
	WHERE m.user_id = person
$$;

-- The key with this hash, when it may still be used.
CREATE FUNCTION api_key_by_hash(hash bytea)
RETURNS TABLE (id uuid, tenant_id uuid, user_id uuid, scope text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp ROWS 1 AS $$
	SELECT k.id, k.tenant_id, k.user_id, k.scope FROM api_key k
	WHERE k.key_hash = hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;

-- Housekeeping: what nobody can use any more, and tenants deleted 30 days ago.
CREATE FUNCTION purge() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	DELETE FROM change WHERE at < now() - interval '25 hours';
	DELETE FROM session WHERE expires_at < now() OR revoked_at < now() - interval '30 days';
	DELETE FROM refresh_token WHERE expires_at < now() - interval '1 day';
	DELETE FROM tenant WHERE status = 'deleted' AND deleted_at < now() - interval '30 days';
$$;

DO $$
DECLARE f text;
BEGIN
	FOREACH f IN ARRAY ARRAY['memberships_of(uuid)', 'api_key_by_hash(bytea)', 'purge()'] LOOP
		EXECUTE format('ALTER FUNCTION %s OWNER TO {{schema}}_search', f);
		EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{schema}}_app', f);
	END LOOP;
END $$;
