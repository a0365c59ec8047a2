-- The outbox in daily partitions, so that a day that is over goes as one file and not row by row (docs/adr/0007-outbox-position.md).
-- Order and position stay what they were: (xid, id) over all of them.
ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY; -- for this moment the owner has to see what is in it
ALTER TABLE outbox RENAME TO outbox_before;
ALTER TABLE outbox_before ALTER COLUMN id DROP IDENTITY;
ALTER TABLE outbox_before DROP CONSTRAINT outbox_pkey;
CREATE SEQUENCE outbox_id;

CREATE TABLE outbox (
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id bigint NOT NULL DEFAULT nextval('outbox_id'), -- PostgreSQL 15 has no identity columns in partitioned tables
	event_id uuid NOT NULL,
	tenant_id uuid NOT NULL,
	type text NOT NULL,
	entity text,
	entity_id uuid,
	entity_seq bigint,
	version bigint,
	before jsonb,
	after jsonb,
	user_id uuid,
	api_key_id uuid,
	request_id text,
	traceparent text,
	dialect text,
	client_ip text,
	user_agent text,
	created_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT outbox_pkey PRIMARY KEY (xid, id, created_at)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE outbox_id OWNED BY outbox.id;
GRANT USAGE ON SEQUENCE outbox_id TO {{schema}}_app, {{schema}}_search; -- functions of the latter make events, too

-- Which partitions there are, and what they hold: from since (or ever) up to, not including, until.
CREATE TABLE outbox_day (
	name text PRIMARY KEY,
	since timestamptz,
	until timestamptz NOT NULL UNIQUE
);

-- Roles come to a partition through the outbox only: none has a grant on it, but for its owner, who looks whether it may go.
CREATE FUNCTION outbox_wall(part text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
	EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
	EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', part);
	EXECUTE format('CREATE POLICY housekeeping ON %I TO {{schema}}_owner USING (true)', part);
END $$;
REVOKE ALL ON FUNCTION outbox_wall(text) FROM PUBLIC;

SELECT outbox_wall('outbox');
DROP POLICY housekeeping ON outbox; -- of its partitions only
CREATE POLICY relay ON outbox TO {{schema}}_relay USING (true);
GRANT INSERT ON outbox TO {{schema}}_app;
-- SELECT alone: a program of before this migration deletes by place in the file, which is no longer one file
GRANT SELECT ON outbox TO {{schema}}_relay;

-- What has no day of its own; in good order it stays empty.
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;
SELECT outbox_wall('outbox_default');

-- What was there becomes the partition of all days until today's end; when there was nothing, days begin today.
DO $$
DECLARE midnight timestamptz := (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC';
BEGIN
	IF NOT EXISTS (SELECT FROM outbox_before) THEN
		DROP TABLE outbox_before;
		RETURN;
	END IF;
	PERFORM setval('outbox_id', (SELECT max(id) FROM outbox_before));
	REVOKE ALL ON outbox_before FROM {{schema}}_app, {{schema}}_relay;
	DROP POLICY tenant ON outbox_before;
	DROP POLICY relay ON outbox_before;
	EXECUTE format('ALTER TABLE outbox ATTACH PARTITION outbox_before FOR VALUES FROM (MINVALUE) TO (%L)', midnight);
	PERFORM outbox_wall('outbox_before');
	INSERT INTO outbox_day VALUES ('outbox_before', NULL, midnight);
END $$;

-- Whether everything in a partition is at or below the relay's position.
CREATE FUNCTION outbox_delivered(part text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE done boolean;
BEGIN
	EXECUTE format('SELECT NOT EXISTS (SELECT FROM (SELECT xid, id FROM %I ORDER BY xid DESC, id DESC LIMIT 1) newest, outbox_position p'
		' WHERE (newest.xid, newest.id) > (p.xid, p.id))', part) INTO done;
	RETURN done;
END $$;
REVOKE ALL ON FUNCTION outbox_delivered(text) FROM PUBLIC;

-- Makes the days from today to three ahead, and drops those that ended 7 days ago when the relay has passed all of them. One process
-- at a time; a lock that others hold for longer than a moment is left for the next call, because writers would queue behind us.
CREATE FUNCTION outbox_housekeep() RETURNS TABLE (made bigint, dropped bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
	day timestamptz;
	part text;
BEGIN
	made := 0;
	dropped := 0;
	IF NOT pg_try_advisory_xact_lock(hashtext('crm.outbox.days'), hashtext('{{schema}}')) THEN
		RETURN NEXT;
		RETURN;
	END IF;
	BEGIN
		FOR day IN SELECT generate_series(date_trunc('day', now()), now() + interval '3 days', interval '1 day') LOOP
			-- a day whose first rows are in the default partition stays there
			CONTINUE WHEN EXISTS (SELECT FROM outbox_day d WHERE coalesce(d.since, '-infinity') <= day AND day < d.until)
				OR EXISTS (SELECT FROM outbox_default o WHERE o.created_at >= day AND o.created_at < day + interval '1 day');
			part := 'outbox_' || to_char(day, 'YYYYMMDD');
			EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING DEFAULTS)', part);
			PERFORM outbox_wall(part);
			-- attached, not made as a partition: that would lock writers out
			EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, day, day + interval '1 day');
			INSERT INTO outbox_day VALUES (part, day, day + interval '1 day');
			made := made + 1;
		END LOOP;
	EXCEPTION WHEN lock_not_available THEN
		made := 0; -- the block is undone; there are three more days to try it
	END;
	DELETE FROM outbox_default o USING outbox_position p
		WHERE o.created_at < now() - interval '7 days' AND (o.xid, o.id) <= (p.xid, p.id);
	BEGIN
		FOR part IN SELECT d.name FROM outbox_day d WHERE d.until <= now() - interval '7 days' ORDER BY d.until LOOP
			CONTINUE WHEN NOT outbox_delivered(part);
			LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
			CONTINUE WHEN NOT outbox_delivered(part); -- nobody can add to it any more
			EXECUTE format('DROP TABLE %I', part);
			DELETE FROM outbox_day d WHERE d.name = part;
			dropped := dropped + 1;
		END LOOP;
	EXCEPTION WHEN lock_not_available THEN
		dropped := 0;
	END;
	RETURN NEXT;
END $$;
REVOKE ALL ON FUNCTION outbox_housekeep() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox_housekeep() TO {{schema}}_relay;

SELECT outbox_housekeep();
