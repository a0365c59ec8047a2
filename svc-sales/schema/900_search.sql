-- What entities show of the rows they refer to, and search: LIKE is not leakproof, so under row-level security its index is never
-- used; these functions run as a role that bypasses it, look at the caller's tenant only, and give ids that are joined through it again.
DO $$
DECLARE t text; label text;
BEGIN
	FOR t, label IN VALUES ('stage', 'r.name'), ('deal', 'r.title'), ('category', 'r.name'), ('product', 'r.name'), ('orders', 'r.number') LOOP
		EXECUTE format($f$
			CREATE FUNCTION %1$I(ref uuid) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = {{schema}}, pg_temp AS $b$
			BEGIN
				RETURN (SELECT r.seq || ':' || coalesce(%3$s, '') FROM %2$I r WHERE r.id = ref AND r.deleted_at IS NULL);
			END $b$ $f$, t || '_ref', t, label);
		EXECUTE format('REVOKE ALL ON FUNCTION %I(uuid) FROM PUBLIC', t || '_ref');
		EXECUTE format('GRANT EXECUTE ON FUNCTION %I(uuid) TO {{schema}}_app', t || '_ref');
	END LOOP;
	FOREACH t IN ARRAY ARRAY['deal', 'product', 'orders'] LOOP
		EXECUTE format('GRANT SELECT ON %I TO {{schema}}_search', t);
		EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id extensions.uuid_ops, search extensions.gin_trgm_ops) WITH (gin_pending_list_limit = 256)', t || '_search', t);
		EXECUTE format($f$
			CREATE FUNCTION %1$I(q text) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 PARALLEL SAFE
			SET search_path = {{schema}}, extensions, pg_temp AS $b$
			DECLARE tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
			BEGIN
				RETURN QUERY SELECT s.id FROM %2$I s WHERE s.tenant_id = tenant AND s.deleted_at IS NULL
					AND s.search LIKE '%%' || lower(replace(replace(replace(q, '\', '\\'), '%%', '\%%'), '_', '\_')) || '%%' LIMIT 2001; -- RESOURCE_SEARCH_MANY + 1
			END $b$ $f$, t || '_search', t);
		EXECUTE format('REVOKE ALL ON FUNCTION %I(text) FROM PUBLIC', t || '_search');
		EXECUTE format('GRANT EXECUTE ON FUNCTION %I(text) TO {{schema}}_app', t || '_search');
		EXECUTE format('ALTER FUNCTION %I(text) OWNER TO {{schema}}_search', t || '_search');
	END LOOP;
END $$;
