-- Security events, alert rules, retention with a chain that still verifies, signed checkpoints.

-- What somebody should look at. Made from entries by observe() in the transaction that appends them.
CREATE TABLE security_event (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	kind text NOT NULL,
	severity text NOT NULL,
	description text NOT NULL,
	user_id uuid,
	ip text,
	user_agent text,
	request_id text,
	entry text,
	entry_seq bigint,
	alert_rule text,
	status text NOT NULL DEFAULT 'open',
	resolution text,
	resolved_at timestamptz,
	resolved_by uuid,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT security_event_seq_unique UNIQUE (tenant_id, seq)
);
CREATE INDEX security_event_time ON security_event (tenant_id, created_at DESC, id DESC);
CREATE INDEX security_event_status ON security_event (tenant_id, status, created_at DESC, id DESC);

CREATE TABLE alert_rule (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	deleted_at timestamptz,
	name text NOT NULL,
	event_type text,
	action text,
	resource text,
	user_id uuid,
	severity text NOT NULL DEFAULT 'medium',
	threshold bigint NOT NULL DEFAULT 1,
	window_s bigint NOT NULL DEFAULT 300,
	is_active boolean NOT NULL DEFAULT true,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT alert_rule_seq_unique UNIQUE (tenant_id, seq)
);
CREATE INDEX alert_rule_time ON alert_rule (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- A rule costs work at every event of its tenant.
CREATE FUNCTION alert_rule_limit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT count(*) FROM alert_rule WHERE tenant_id = NEW.tenant_id AND deleted_at IS NULL) >= 50 THEN
		RAISE EXCEPTION 'a tenant has at most 50 alert rules' USING ERRCODE = 'check_violation', CONSTRAINT = 'alert_rule_limit';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER at_most BEFORE INSERT ON alert_rule FOR EACH ROW EXECUTE FUNCTION alert_rule_limit();

-- Hits of a rule per tenth of its window, and when it last fired.
CREATE TABLE alert_hit (
	tenant_id uuid NOT NULL,
	rule_id uuid NOT NULL,
	slot bigint NOT NULL,
	hits bigint NOT NULL,
	PRIMARY KEY (tenant_id, rule_id, slot)
);
CREATE TABLE alert_fired (
	tenant_id uuid NOT NULL,
	rule_id uuid NOT NULL,
	slot bigint NOT NULL,
	at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, rule_id)
);

CREATE TABLE retention_policy (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	name text NOT NULL,
	kind text NOT NULL,
	keep_days bigint NOT NULL,
	legal_hold boolean NOT NULL DEFAULT false,
	last_applied_at timestamptz,
	last_removed bigint NOT NULL DEFAULT 0,
	last_cut_seq bigint,
	last_cut_hash text,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT retention_policy_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT retention_policy_kind_unique UNIQUE (tenant_id, kind)
);

-- Every tenant has its policies as soon as it has a chain.
CREATE FUNCTION retention_defaults(tenant uuid) RETURNS void LANGUAGE sql AS $$
	INSERT INTO retention_policy (tenant_id, id, seq, name, kind, keep_days)
	VALUES (tenant, gen_random_uuid(), 1, 'Audit log', 'audit_log', 2555), (tenant, gen_random_uuid(), 2, 'Resolved security events', 'security_events', 730)
	ON CONFLICT DO NOTHING
$$;
CREATE FUNCTION chain_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM retention_defaults(NEW.tenant_id);
	RETURN NEW;
END $$;
CREATE TRIGGER begins AFTER INSERT ON chain FOR EACH ROW EXECUTE FUNCTION chain_begins();

-- Where retention cut a chain's beginning off: the last entry that went, its hash, and the signature of both.
CREATE TABLE chain_cut (
	tenant_id uuid NOT NULL,
	seq bigint NOT NULL,
	hash text NOT NULL,
	removed bigint NOT NULL,
	cut_at timestamptz NOT NULL DEFAULT now(),
	signed_us bigint NOT NULL,
	signature text NOT NULL,
	PRIMARY KEY (tenant_id, seq)
);

-- Ends of chains, signed by svc-audit; copies are in a file outside the database.
CREATE TABLE checkpoint (
	tenant_id uuid NOT NULL,
	seq bigint NOT NULL,
	hash text NOT NULL,
	signed_us bigint NOT NULL,
	signature text NOT NULL,
	PRIMARY KEY (tenant_id, seq)
);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['security_event', 'alert_rule', 'alert_hit', 'alert_fired', 'retention_policy', 'chain_cut', 'checkpoint'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON security_event, alert_hit, alert_fired TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE ON alert_rule, retention_policy TO {{schema}}_app;
GRANT SELECT, INSERT ON chain_cut, checkpoint TO {{schema}}_app;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON chain_cut FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_all BEFORE TRUNCATE ON chain_cut FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The one way an entry goes: behind a cut that has been recorded, through retention_cut().
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'entry' AND current_user = '{{schema}}_search' THEN
		IF OLD.seq <= (SELECT max(c.seq) FROM {{schema}}.chain_cut c WHERE c.tenant_id = OLD.tenant_id) THEN
			RETURN OLD;
		END IF;
	END IF;
	RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'insufficient_privilege';
END $$;

-- Removes what a recorded cut says. Runs as a role that bypasses RLS and nobody logs in as; the tenant is the caller's.
CREATE FUNCTION retention_cut() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	WITH gone AS (
		DELETE FROM entry e WHERE e.tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
			AND e.seq <= (SELECT max(c.seq) FROM chain_cut c WHERE c.tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
		RETURNING 1
	)
	SELECT count(*) FROM gone
$$;
GRANT SELECT, DELETE ON entry TO {{schema}}_search;
GRANT SELECT ON chain_cut, chain, checkpoint TO {{schema}}_search;
REVOKE ALL ON FUNCTION retention_cut() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retention_cut() TO {{schema}}_app;
ALTER FUNCTION retention_cut() OWNER TO {{schema}}_search;

-- Chains of all tenants whose end is to be signed: 1,000 entries behind the last checkpoint, or all of them when everything is due.
CREATE FUNCTION checkpoint_due(everything boolean) RETURNS TABLE (tenant_id uuid, seq bigint, hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	SELECT c.tenant_id, c.seq, c.hash FROM chain c
	LEFT JOIN LATERAL (SELECT k.seq FROM checkpoint k WHERE k.tenant_id = c.tenant_id ORDER BY k.seq DESC LIMIT 1) k ON true
	WHERE c.seq > coalesce(k.seq, 0) AND (everything OR c.seq - coalesce(k.seq, 0) >= 1000)
	ORDER BY c.seq - coalesce(k.seq, 0) DESC LIMIT 500
$$;
REVOKE ALL ON FUNCTION checkpoint_due(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION checkpoint_due(boolean) TO {{schema}}_app;
ALTER FUNCTION checkpoint_due(boolean) OWNER TO {{schema}}_search;

-- Which entries are security events at once.
CREATE TABLE security_type (
	type text PRIMARY KEY,
	kind text NOT NULL,
	severity text NOT NULL,
	description text NOT NULL
);
INSERT INTO security_type VALUES
	('auth.user.login_failed', 'login_failed', 'low', 'A login failed: wrong password'),
	('auth.user.locked', 'lockout', 'medium', 'An account was locked after failed logins'),
	('auth.session.reuse_detected', 'token_reuse', 'high', 'A refresh token was used twice; the session was ended'),
	('auth.role.created', 'role_change', 'medium', 'A role was made'),
	('auth.role.updated', 'role_change', 'medium', 'A role was changed'),
	('auth.role.deleted', 'role_change', 'medium', 'A role was removed'),
	('auth.user.role_changed', 'role_change', 'medium', 'A user got another role'),
	('auth.user.permissions_changed', 'role_change', 'medium', 'A user got other permissions'),
	('auth.user.two_factor_disabled', 'two_factor_disabled', 'medium', 'Two-factor authentication was switched off'),
	('auth.signing_key.rotated', 'key_rotation', 'low', 'The signing keys were rotated'),
	('auth.api_key.created', 'api_key', 'low', 'An API key was made'),
	('auth.api_key.revoked', 'api_key', 'low', 'An API key was revoked'),
	('audit.retention_policy.applied', 'retention', 'medium', 'Retention removed records'),
	('audit.retention_policy.updated', 'retention', 'medium', 'A retention policy was changed'),
	('audit.log.exported', 'export', 'low', 'Audit logs were exported');
GRANT SELECT ON security_type TO {{schema}}_app;

CREATE FUNCTION security_seq() RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO seq_block AS b (tenant_id, kind, next) VALUES (current_setting('app.tenant_id')::uuid, 'security_event', 2)
	ON CONFLICT (tenant_id, kind) DO UPDATE SET next = b.next + 1 RETURNING next - 1
$$;

-- One slot of one rule: adds hits, and fires when the window up to this slot holds enough and the rule has not fired within it.
CREATE FUNCTION alert_count(r alert_rule, at_slot bigint, n bigint, last_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE total bigint;
BEGIN
	INSERT INTO alert_hit AS h (tenant_id, rule_id, slot, hits) VALUES (r.tenant_id, r.id, at_slot, n)
	ON CONFLICT (tenant_id, rule_id, slot) DO UPDATE SET hits = h.hits + n;
	DELETE FROM alert_hit h WHERE h.tenant_id = r.tenant_id AND h.rule_id = r.id AND h.slot < at_slot - 100;
	SELECT sum(h.hits) INTO total FROM alert_hit h WHERE h.tenant_id = r.tenant_id AND h.rule_id = r.id AND h.slot BETWEEN at_slot - 10 AND at_slot;
	IF total < r.threshold THEN
		RETURN false;
	END IF;
	INSERT INTO alert_fired AS f (tenant_id, rule_id, slot, at) VALUES (r.tenant_id, r.id, at_slot, last_at)
	ON CONFLICT (tenant_id, rule_id) DO UPDATE SET slot = at_slot, at = last_at WHERE f.slot + 10 < at_slot;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO security_event (tenant_id, id, seq, created_at, kind, severity, description, alert_rule)
	VALUES (r.tenant_id, gen_random_uuid(), security_seq(), last_at, 'alert', r.severity,
		format('%s: %s events within %s s', r.name, total, r.window_s), r.id::text);
	RETURN true;
END $$;

-- Called by the consumer for the entries it has just appended, in its transaction. Gives the rules that fired.
CREATE FUNCTION observe(first bigint, last bigint) RETURNS TABLE (fired_rule uuid, fired_name text) LANGUAGE plpgsql AS $$
DECLARE
	r alert_rule;
	hit record;
BEGIN
	INSERT INTO security_event (tenant_id, id, seq, created_at, kind, severity, description, user_id, ip, user_agent, request_id, entry, entry_seq)
	SELECT e.tenant_id, gen_random_uuid(), security_seq(), e.created_at, t.kind, t.severity, t.description, e.user_id, e.ip, e.user_agent, e.request_id, e.id::text, e.seq
	FROM entry e JOIN security_type t ON t.type = e.type
	WHERE e.tenant_id = current_setting('app.tenant_id')::uuid AND e.seq BETWEEN first AND last ORDER BY e.seq;
	FOR r IN SELECT * FROM alert_rule a WHERE a.is_active AND a.deleted_at IS NULL ORDER BY a.seq LOOP
		FOR hit IN
			SELECT floor(extract(epoch FROM e.created_at) * 10 / r.window_s)::bigint AS slot, count(*) AS n, max(e.created_at) AS last_at FROM entry e
			WHERE e.tenant_id = r.tenant_id AND e.seq BETWEEN first AND last
				AND (r.event_type IS NULL OR e.type = r.event_type) AND (r.action IS NULL OR e.action = r.action)
				AND (r.resource IS NULL OR e.resource = r.resource) AND (r.user_id IS NULL OR e.user_id = r.user_id)
			GROUP BY 1 ORDER BY 1
		LOOP
			IF alert_count(r, hit.slot, hit.n, hit.last_at) THEN
				fired_rule := r.id;
				fired_name := r.name;
				RETURN NEXT;
			END IF;
		END LOOP;
	END LOOP;
END $$;

-- Chains that were there before their policies. The owner sees no rows under forced row-level security, so for this moment it is not forced.
ALTER TABLE chain NO FORCE ROW LEVEL SECURITY;
ALTER TABLE retention_policy NO FORCE ROW LEVEL SECURITY;
SELECT retention_defaults(tenant_id) FROM chain;
ALTER TABLE chain FORCE ROW LEVEL SECURITY;
ALTER TABLE retention_policy FORCE ROW LEVEL SECURITY;
