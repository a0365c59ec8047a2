-- Who finds more than 2,000 entries walks the log instead (RESOURCE_SEARCH_MANY), so nobody needs more ids than say that there are more.
CREATE OR REPLACE FUNCTION entry_search(q text) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 PARALLEL SAFE
SET search_path = {{schema}}, extensions, pg_temp AS $$
DECLARE tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
	RETURN QUERY SELECT s.id FROM entry s WHERE s.tenant_id = tenant
		AND s.search LIKE '%' || lower(replace(replace(replace(q, '\', '\\'), '%', '\%'), '_', '\_')) || '%' LIMIT 2001; -- RESOURCE_SEARCH_MANY + 1
END $$;
