-- What an entity shows of the rows it refers to: functions, called only where there is a reference. They run as the caller, so
-- row-level security holds inside them.

DO $$
DECLARE t text; label text;
BEGIN
	FOR t, label IN VALUES ('territory', 'r.name'), ('account', 'coalesce(r.name, r.contact_name)'), ('contact', 'r.display'), ('lead', 'r.display') LOOP
		EXECUTE format($f$
			CREATE FUNCTION %1$I(ref uuid) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = {{schema}}, pg_temp AS $b$
			BEGIN
				RETURN (SELECT r.seq || ':' || coalesce(%3$s, '') FROM %2$I r WHERE r.id = ref AND r.deleted_at IS NULL);
			END $b$ $f$, t || '_ref', t, label);
		EXECUTE format('REVOKE ALL ON FUNCTION %I(uuid) FROM PUBLIC', t || '_ref');
		EXECUTE format('GRANT EXECUTE ON FUNCTION %I(uuid) TO {{schema}}_app', t || '_ref');
	END LOOP;
END $$;

CREATE FUNCTION tag_refs(refs uuid[]) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	RETURN (SELECT string_agg(g.id::text || ':' || g.seq || ':' || coalesce(g.color, '') || ':' || octet_length(g.name) || ':' || g.name, '' ORDER BY u.n)
		FROM unnest(refs) WITH ORDINALITY u(id, n) JOIN tag g ON g.id = u.id AND g.deleted_at IS NULL);
END $$;
REVOKE ALL ON FUNCTION tag_refs(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tag_refs(uuid[]) TO {{schema}}_app;
