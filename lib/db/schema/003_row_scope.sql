-- Members who see and change not all rows of a kind, but their own or those of their team (docs/auth.md, ADR 0016).
--
-- app.scope is Principal.scope, set with the tenant: ' contacts=own leads=team;<caller>,<member of the team>,…'. Empty: all rows. It is
-- a second wall inside the first: a restrictive policy, so it holds for whatever statement a service makes for a limited caller.

-- The ids whose rows of this kind count. NULL, which equals nothing, for a kind that is not limited or a word that is not known.
CREATE FUNCTION row_owners(kind text) RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE SET search_path = {{schema}}, pg_temp AS $$
	SELECT CASE substring(split_part(s, ';', 1) FROM ' ' || kind || '=([a-z]+)')
		WHEN 'own' THEN ARRAY[NULLIF(split_part(split_part(s, ';', 2), ',', 1), '')::uuid]
		WHEN 'team' THEN string_to_array(NULLIF(split_part(s, ';', 2), ''), ',')::uuid[]
	END FROM (SELECT current_setting('app.scope', true) AS s) x
$$;
REVOKE ALL ON FUNCTION row_owners(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION row_owners(text) TO {{schema}}_app;

-- For the migration that makes a table whose message has `rows` in the contract: rows is that word, owner the column of the message's
-- owner (NULL: created_by alone). Makes the policy, and an index that finds the rows of one owner in the order of lists; owner and
-- creator are in it because the policy reads them: totals are counted from the index alone.
--
-- Both sub-selects are worked out at most once per statement, the second for limited callers only. The first compares with <>
-- because the planner then expects every row to pass: plans of callers who see all rows stay as they are. CASE and not coalesce():
-- the planner takes coalesce() for something that may leak what it reads, and would not use an index on it behind row-level security.
CREATE FUNCTION limit_rows(relation text, rows text, owner text) RETURNS void LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE whose text := CASE WHEN owner IS NULL THEN 'created_by' ELSE format('CASE WHEN %1$I IS NULL THEN created_by ELSE %1$I END', owner) END;
BEGIN
	EXECUTE format('CREATE POLICY scope ON %I AS RESTRICTIVE TO {{schema}}_app USING ('
		'(SELECT (strpos(coalesce(current_setting(''app.scope'', true), ''''), %L) > 0)::integer) <> 1'
		' OR %s = ANY ((SELECT row_owners(%L))::uuid[]))', relation, ' ' || rows || '=', whose, rows);
	EXECUTE format('CREATE INDEX %I ON %I (tenant_id, (%s), created_at DESC, id DESC) INCLUDE (created_by%s) WHERE deleted_at IS NULL',
		relation || '_rows', relation, whose, CASE WHEN owner IS NULL THEN '' ELSE format(', %I', owner) END);
END $$;
REVOKE ALL ON FUNCTION limit_rows(text, text, text) FROM PUBLIC;
