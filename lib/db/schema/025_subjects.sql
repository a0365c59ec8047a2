-- Erasing a person: what the outbox and kept replies still say of them. Runs as a role that bypasses RLS; the tenant is the caller's.
CREATE FUNCTION subject_scrub(ids uuid[]) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	UPDATE outbox SET before = NULL, after = NULL
	WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid AND entity_id = ANY(ids) AND (before IS NOT NULL OR after IS NOT NULL);
	UPDATE idempotency SET reply = '' WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
		AND EXISTS (SELECT FROM unnest(ids) i WHERE position(convert_to(i::text, 'UTF8') IN reply) > 0);
$$;
GRANT SELECT, UPDATE ON outbox, idempotency TO {{schema}}_search;
REVOKE ALL ON FUNCTION subject_scrub(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION subject_scrub(uuid[]) TO {{schema}}_app;
ALTER FUNCTION subject_scrub(uuid[]) OWNER TO {{schema}}_search;
