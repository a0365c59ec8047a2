-- What gateways refuse, and what svc-auth notes besides, are security events.
INSERT INTO security_type VALUES
	('audit.access.token_refused', 'forged_token', 'high', 'A forged access token was refused'),
	('audit.access.permission_refused', 'permission_denied', 'low', 'A request without the permission was refused'),
	('audit.access.tenant_refused', 'foreign_tenant', 'medium', 'A request for a tenant that the user is no member of was refused'),
	('audit.access.rate_refused', 'rate_limit_storm', 'medium', 'Requests over the rate limit went on'),
	('audit.alert_rule.updated', 'alert_rule', 'low', 'An alert rule was changed'),
	('audit.alert_rule.deleted', 'alert_rule', 'low', 'An alert rule was removed')
ON CONFLICT DO NOTHING;

-- Alerts go somewhere: to the event stream always, by mail when the rule says so.
ALTER TABLE alert_rule
	ADD channel text NOT NULL DEFAULT 'stream',
	ADD recipient text[] DEFAULT '{}',
	ADD CONSTRAINT alert_rule_recipient_present CHECK (channel <> 'mail' OR coalesce(cardinality(recipient), 0) > 0);

-- Mail that is to be sent, written in the transaction of the alert. sealed: the values, encrypted.
CREATE TABLE mail_queue (
	id uuid PRIMARY KEY,
	recipient text NOT NULL,
	template text NOT NULL,
	sealed bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	due_at timestamptz NOT NULL DEFAULT now(),
	tries integer NOT NULL DEFAULT 0,
	refused_at timestamptz
);
CREATE INDEX mail_queue_due ON mail_queue (due_at) WHERE refused_at IS NULL;
GRANT SELECT, INSERT, UPDATE, DELETE ON mail_queue TO {{schema}}_app;

DROP FUNCTION observe(bigint, bigint);
DROP FUNCTION alert_count(alert_rule, bigint, bigint, timestamptz);

-- One slot of one rule: adds hits; how many the window up to this slot holds when that fires the rule, else NULL.
CREATE FUNCTION alert_count(r alert_rule, at_slot bigint, n bigint, last_at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE total bigint;
BEGIN
	INSERT INTO alert_hit AS h (tenant_id, rule_id, slot, hits) VALUES (r.tenant_id, r.id, at_slot, n)
	ON CONFLICT (tenant_id, rule_id, slot) DO UPDATE SET hits = h.hits + n;
	DELETE FROM alert_hit h WHERE h.tenant_id = r.tenant_id AND h.rule_id = r.id AND h.slot < at_slot - 100;
	SELECT sum(h.hits) INTO total FROM alert_hit h WHERE h.tenant_id = r.tenant_id AND h.rule_id = r.id AND h.slot BETWEEN at_slot - 10 AND at_slot;
	IF total < r.threshold THEN
		RETURN NULL;
	END IF;
	INSERT INTO alert_fired AS f (tenant_id, rule_id, slot, at) VALUES (r.tenant_id, r.id, at_slot, last_at)
	ON CONFLICT (tenant_id, rule_id) DO UPDATE SET slot = at_slot, at = last_at WHERE f.slot + 10 < at_slot;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN total;
END $$;

-- A rule fired: a security event, and an event for the stream.
CREATE FUNCTION alert_fire(r alert_rule, total bigint, fired_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE made security_event;
BEGIN
	INSERT INTO security_event (tenant_id, id, seq, created_at, kind, severity, description, alert_rule)
	VALUES (r.tenant_id, gen_random_uuid(), security_seq(), fired_at, 'alert', r.severity,
		format('%s: %s events within %s s', r.name, total, r.window_s), r.id::text) RETURNING * INTO made;
	INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after)
	VALUES (gen_random_uuid(), r.tenant_id, 'audit.alert.fired', 'alert', r.id, r.seq, r.version, jsonb_build_object('name', r.name, 'severity', r.severity,
		'events', total, 'window_s', r.window_s, 'fired_at', fired_at, 'security_event', made.id));
END $$;

-- What a security event says of an entry.
CREATE FUNCTION security_text(e entry, text text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN e.type LIKE 'audit.access.%' THEN
		text || format(' (%s%s times)', coalesce(nullif(e.after->>'reason', '') || ', ', ''), e.after->>'count') ELSE text END
$$;

-- Called by the consumer for the entries it has just appended, in its transaction. Gives the rules that fired, and to whom mail goes.
-- An alert is no hit of any rule: it would go round in circles.
CREATE FUNCTION observe(first bigint, last bigint)
RETURNS TABLE (fired_rule uuid, fired_name text, fired_severity text, fired_total bigint, fired_window bigint, fired_at timestamptz, mail_to text[]) LANGUAGE plpgsql AS $$
DECLARE
	r alert_rule;
	hit record;
BEGIN
	INSERT INTO security_event (tenant_id, id, seq, created_at, kind, severity, description, user_id, ip, user_agent, request_id, entry, entry_seq)
	SELECT e.tenant_id, gen_random_uuid(), security_seq(), e.created_at, t.kind, t.severity, security_text(e, t.description), e.user_id, e.ip, e.user_agent,
		e.request_id, e.id::text, e.seq
	FROM entry e JOIN security_type t ON t.type = e.type
	WHERE e.tenant_id = current_setting('app.tenant_id')::uuid AND e.seq BETWEEN first AND last ORDER BY e.seq;
	FOR r IN SELECT * FROM alert_rule a WHERE a.is_active AND a.deleted_at IS NULL ORDER BY a.seq LOOP
		FOR hit IN
			SELECT floor(extract(epoch FROM e.created_at) * 10 / r.window_s)::bigint AS slot, count(*) AS n, max(e.created_at) AS last_at FROM entry e
			WHERE e.tenant_id = r.tenant_id AND e.seq BETWEEN first AND last AND e.type <> 'audit.alert.fired'
				AND (r.event_type IS NULL OR e.type = r.event_type) AND (r.action IS NULL OR e.action = r.action)
				AND (r.resource IS NULL OR e.resource = r.resource) AND (r.user_id IS NULL OR e.user_id = r.user_id)
			GROUP BY 1 ORDER BY 1
		LOOP
			fired_total := alert_count(r, hit.slot, hit.n, hit.last_at);
			IF fired_total IS NOT NULL THEN
				PERFORM alert_fire(r, fired_total, hit.last_at);
				fired_rule := r.id;
				fired_name := r.name;
				fired_severity := r.severity;
				fired_window := r.window_s;
				fired_at := hit.last_at;
				mail_to := CASE WHEN r.channel = 'mail' THEN r.recipient END;
				RETURN NEXT;
			END IF;
		END LOOP;
	END LOOP;
END $$;
