-- The feed for integrators: the events of each tenant of the last 7 days, numbered densely in the order in which they came from
-- the bus. The number is the cursor, so it stays valid whatever the bus is.
CREATE TABLE feed (
	tenant_id uuid NOT NULL,
	position bigint NOT NULL,
	event_id uuid NOT NULL,
	type text NOT NULL,
	entity text NOT NULL DEFAULT '',  -- its word; decides whose read permission is asked for
	at timestamptz NOT NULL DEFAULT now(),
	value bytea NOT NULL,             -- crm.v1.FeedEvent without cursor
	PRIMARY KEY (tenant_id, position)
);
CREATE INDEX feed_age ON feed USING brin (at);

-- The end of each tenant's feed; its row lock makes one writer per tenant. xid: who asks what moved goes by it.
CREATE TABLE feed_head (
	tenant_id uuid PRIMARY KEY,
	position bigint NOT NULL,
	xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX feed_head_moved ON feed_head (xid);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['feed', 'feed_head'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	END LOOP;
END $$;
GRANT SELECT, INSERT ON feed TO {{schema}}_app;
GRANT SELECT, INSERT, UPDATE ON feed_head TO {{schema}}_app;
GRANT SELECT, DELETE ON feed TO {{schema}}_search;
GRANT SELECT ON feed_head TO {{schema}}_search;

-- Which tenants have something new since a transaction, for gateways that hold waiting clients: numbers only.
CREATE FUNCTION feed_moved(since xid8) RETURNS TABLE (tenant_id uuid, head bigint, moved xid8)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	SELECT h.tenant_id, h.position, h.xid FROM feed_head h WHERE h.xid >= since ORDER BY h.xid LIMIT 5000
$$;

-- Retention: drops up to 10,000 events older than 7 days, returns how many.
CREATE FUNCTION feed_expire() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	WITH gone AS (
		DELETE FROM feed WHERE ctid = ANY (ARRAY(SELECT ctid FROM feed WHERE at < now() - interval '7 days' LIMIT 10000)) RETURNING 1
	)
	SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION feed_moved(xid8), feed_expire() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION feed_moved(xid8), feed_expire() TO {{schema}}_app;
ALTER FUNCTION feed_moved(xid8) OWNER TO {{schema}}_search;
ALTER FUNCTION feed_expire() OWNER TO {{schema}}_search;
