-- What the table of an entity has beside its own columns (docs/resource.md), for migrations: one line instead of fifty.
--   CALL entity_table('competitor', 'name text NOT NULL, website text');
--   CALL entity_name('competitor', 'r.name');                             others refer to it by this
--   CALL entity_search('competitor', 'name || '' '' || coalesce(website, '''')');

CREATE PROCEDURE entity_table(t text, columns text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($f$CREATE TABLE %1$I (
		tenant_id uuid NOT NULL, id uuid NOT NULL, seq bigint NOT NULL, version bigint NOT NULL DEFAULT 1,
		created_at timestamptz NOT NULL DEFAULT now(), created_by uuid, updated_at timestamptz NOT NULL DEFAULT now(), updated_by uuid, deleted_at timestamptz,
		%2$s, PRIMARY KEY (tenant_id, id), CONSTRAINT %3$I UNIQUE (tenant_id, seq))$f$, t, columns, t || '_seq_unique');
	EXECUTE format('CREATE INDEX %I ON %I (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL', t || '_list', t);
	EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
	EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
	EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO {{schema}}_app', t);
END $$;

-- label: an expression over r, the row.
CREATE PROCEDURE entity_name(t text, label text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($f$
		CREATE FUNCTION %1$I(ref uuid) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = {{schema}}, pg_temp AS $b$
		BEGIN
			RETURN (SELECT r.seq || ':' || coalesce(%3$s, '') FROM %2$I r WHERE r.id = ref AND r.deleted_at IS NULL);
		END $b$ $f$, t || '_ref', t, label);
	EXECUTE format('REVOKE ALL ON FUNCTION %I(uuid) FROM PUBLIC', t || '_ref');
	EXECUTE format('GRANT EXECUTE ON FUNCTION %I(uuid) TO {{schema}}_app', t || '_ref');
END $$;

-- words: an immutable expression over the columns. LIKE is not leakproof, so under row-level security its index is never used: the
-- function runs as a role that bypasses it, looks at the caller's tenant only, and gives ids that are joined through it again.
CREATE PROCEDURE entity_search(t text, words text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I ADD COLUMN search text GENERATED ALWAYS AS (lower(%s)) STORED', t, words);
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
END $$;
