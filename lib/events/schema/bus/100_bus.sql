-- The event bus in PostgreSQL: one append-only log, read by groups. Order is (xid, position), read only below
-- pg_snapshot_xmin: a producer that commits late is never overtaken by a group's position.
CREATE TABLE record (
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	position bigint GENERATED ALWAYS AS IDENTITY,
	topic text NOT NULL,
	key text NOT NULL,
	event_id uuid NOT NULL,
	headers jsonb NOT NULL DEFAULT '{}',
	value bytea NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (topic, xid, position)
);
CREATE INDEX record_age ON record USING brin (at);

CREATE TABLE group_position (
	group_name text NOT NULL,
	topic text NOT NULL,
	xid xid8 NOT NULL DEFAULT '0',
	position bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (group_name, topic)
);

-- Retention: drops up to 10,000 records older than 7 days, returns how many. The login role itself may not delete.
CREATE FUNCTION record_expire() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	WITH old AS (
		SELECT topic, xid, position FROM record WHERE at < now() - interval '7 days' LIMIT 10000
	), gone AS (
		DELETE FROM record r USING old o WHERE r.topic = o.topic AND r.xid = o.xid AND r.position = o.position RETURNING 1
	)
	SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION record_expire() FROM PUBLIC;

GRANT SELECT, INSERT ON record TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE ON group_position TO {{schema}}_app;
GRANT EXECUTE ON FUNCTION record_expire() TO {{schema}}_app;
