-- A new signing key concerns every tenant: an event in each one's log.
CREATE FUNCTION signing_key_rotated(kid text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	INSERT INTO outbox (event_id, tenant_id, type, entity, after)
	SELECT gen_random_uuid(), t.id, 'auth.signing_key.rotated', 'signing_key', jsonb_build_object('kid', kid) FROM tenant t WHERE t.status = 'active'
$$;
GRANT INSERT ON outbox TO {{schema}}_search;
REVOKE ALL ON FUNCTION signing_key_rotated(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION signing_key_rotated(text) TO {{schema}}_app;
ALTER FUNCTION signing_key_rotated(text) OWNER TO {{schema}}_search;
