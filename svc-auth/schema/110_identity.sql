-- People managed by an administrator: members who left, roles with a life of their own, invitations, password resets, mail.

-- Who left stays as a row, so that what refers to them keeps its name.
ALTER TABLE membership DROP CONSTRAINT membership_status_check;
ALTER TABLE membership ADD CONSTRAINT membership_status_check CHECK (status IN ('active', 'inactive', 'deleted'));
ALTER TABLE membership ADD deleted_at timestamptz;
CREATE INDEX membership_role ON membership (tenant_id, role);

ALTER TABLE role
	ADD id uuid NOT NULL DEFAULT gen_random_uuid(),
	ADD version bigint NOT NULL DEFAULT 1,
	ADD description text,
	ADD created_at timestamptz NOT NULL DEFAULT now(),
	ADD updated_at timestamptz NOT NULL DEFAULT now();
GRANT DELETE ON role TO {{schema}}_app;

ALTER TABLE session
	ADD client_ip text,
	ADD user_agent text,
	ADD last_used_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX session_person ON session (user_id) WHERE revoked_at IS NULL;

-- The token is in the mail only.
CREATE TABLE invitation (
	id uuid PRIMARY KEY,
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	email text NOT NULL,
	display text,
	role text NOT NULL,
	invited_by uuid NOT NULL REFERENCES person,
	token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
	expires_at timestamptz NOT NULL,
	sent integer NOT NULL DEFAULT 1,
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'accepted', 'cancelled')),
	UNIQUE (tenant_id, seq)
);
CREATE UNIQUE INDEX invitation_pending ON invitation (tenant_id, lower(email)) WHERE status = 'pending';

-- Read before a tenant is known, by hash: no wall to stand behind, like session.
CREATE TABLE password_reset (
	token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
	person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL
);
CREATE INDEX password_reset_person ON password_reset (person_id);

-- Mail that is to be sent: written with what it is about, deleted when the server took it. values: sealed, for it holds tokens.
CREATE TABLE mail_queue (
	id uuid PRIMARY KEY,
	recipient text NOT NULL,
	template text NOT NULL,
	sealed bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	due_at timestamptz NOT NULL DEFAULT now(),
	tries integer NOT NULL DEFAULT 0,
	refused_at timestamptz                                    -- the server will never take it
);
CREATE INDEX mail_queue_due ON mail_queue (due_at) WHERE refused_at IS NULL;

ALTER TABLE invitation ENABLE ROW LEVEL SECURITY;
ALTER TABLE invitation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON invitation TO {{schema}}_app
	USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
	WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE ON invitation TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON password_reset, mail_queue TO {{schema}}_app;

CREATE OR REPLACE VIEW user_view WITH (security_invoker = true) AS
SELECT m.tenant_id, p.id, m.seq, p.version + m.version - 1 AS version, m.created_at, greatest(m.updated_at, p.updated_at) AS updated_at,
       p.email, p.display, p.given, p.family, p.avatar, p.preferences, m.role, m.status, m.last_login_at,
       t.seq AS tenant_seq, t.name AS tenant_name, m.granted, m.denied, r.permissions AS role_permissions
FROM membership m JOIN person p ON p.id = m.user_id JOIN tenant t ON t.id = m.tenant_id
LEFT JOIN role r ON r.tenant_id = m.tenant_id AND r.name = m.role
WHERE m.status <> 'deleted';

GRANT SELECT ON invitation TO {{schema}}_search;
GRANT SELECT, DELETE ON password_reset, mail_queue TO {{schema}}_search;
GRANT DELETE ON invitation TO {{schema}}_search;

-- The invitation with this token, while it can be accepted.
CREATE FUNCTION invitation_by_hash(hash bytea)
RETURNS TABLE (id uuid, tenant_id uuid, email text, display text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp ROWS 1 AS $$
	SELECT i.id, i.tenant_id, i.email, i.display, i.role FROM invitation i JOIN tenant t ON t.id = i.tenant_id
	WHERE i.token_hash = hash AND i.status = 'pending' AND i.expires_at > now() AND t.status = 'active'
$$;

CREATE OR REPLACE FUNCTION purge() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	DELETE FROM change WHERE at < now() - interval '25 hours';
	DELETE FROM session WHERE expires_at < now() OR revoked_at < now() - interval '30 days';
	DELETE FROM refresh_token WHERE expires_at < now() - interval '1 day';
	DELETE FROM password_reset WHERE expires_at < now();
	DELETE FROM mail_queue WHERE refused_at < now() - interval '7 days';
	DELETE FROM invitation WHERE status <> 'pending' AND updated_at < now() - interval '90 days';
	DELETE FROM tenant WHERE status = 'deleted' AND deleted_at < now() - interval '30 days';
$$;

DO $$
BEGIN
	EXECUTE 'ALTER FUNCTION invitation_by_hash(bytea) OWNER TO {{schema}}_search';
	EXECUTE 'REVOKE ALL ON FUNCTION invitation_by_hash(bytea) FROM PUBLIC';
	EXECUTE 'GRANT EXECUTE ON FUNCTION invitation_by_hash(bytea) TO {{schema}}_app';
END $$;
