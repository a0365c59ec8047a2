-- Whose rows a member sees and changes: of the role, of their own (which wins, kind by kind), and the team.
ALTER TABLE role ADD row_scopes jsonb NOT NULL DEFAULT '{}';
ALTER TABLE membership ADD row_scopes jsonb NOT NULL DEFAULT '{}', ADD team text;
ALTER TABLE change ADD limited boolean NOT NULL DEFAULT false;
CREATE INDEX membership_team ON membership (tenant_id, team, user_id) WHERE team IS NOT NULL;

-- What comes of both: {"contacts": "own", "leads": "team"}. A kind that is not there is not limited.
CREATE FUNCTION row_scopes_of(role_scopes jsonb, own jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT coalesce(jsonb_object_agg(key, value) FILTER (WHERE value <> '"all"'), '{}') FROM jsonb_each(coalesce(role_scopes, '{}') || coalesce(own, '{}'))
$$;
REVOKE ALL ON FUNCTION row_scopes_of(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION row_scopes_of(jsonb, jsonb) TO {{schema}}_app;

-- A member of the current tenant as Principal.scope, NULL when nothing is limited. Row-level security of membership is the wall.
CREATE FUNCTION member_scope(member uuid) RETURNS text LANGUAGE sql STABLE SET search_path = {{schema}}, pg_temp AS $$
	SELECT (SELECT string_agg(' ' || key || '=' || value, '' ORDER BY key) FROM jsonb_each_text(row_scopes_of(r.row_scopes, m.row_scopes))) || ';' || m.user_id
		|| coalesce((SELECT string_agg(',' || o.user_id, '' ORDER BY o.user_id) FROM membership o
			WHERE o.tenant_id = m.tenant_id AND o.team = m.team AND o.user_id <> m.user_id), '')
	FROM membership m LEFT JOIN role r ON r.tenant_id = m.tenant_id AND r.name = m.role WHERE m.user_id = member
$$;
REVOKE ALL ON FUNCTION member_scope(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION member_scope(uuid) TO {{schema}}_app;
